"""One command, `steel`, over steel_data, steel_train and steel_eval, which do the work: nothing is computed here."""
