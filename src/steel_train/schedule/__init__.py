"""Which example is learnt at which step, in which batch, and how often each row was seen by then."""
