"""Loss gap of the Skywork report: is the benchmark more familiar than fresh items of its kind?

Access: log-probabilities of the texts. Cost: one forward pass a text of the test, reference and (if given) train set;
train_rows.py draws the last from a mixture.
Source: Wei et al. 2023 (arXiv 2310.19341, section 5.2). Delta 1 = L_test - L_ref: below 0 where the test was seen.
Delta 2 = L_test - L_train: above 0 where the train set is over-fitted. L is the mean over texts of the mean loss of a
text's tokens (nats). A difference of style between test and reference shifts Delta 1 by about 0.1 without any leak,
which is why it is shown beside that of the base, and only the change counts.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class LossGap:
    """The two gaps of one model, in nats a token; `test_train` None without a train set."""

    test_ref: float
    test_train: float | None


def loss_gap(
    test_I: NDArray[np.float64], ref_C: NDArray[np.float64], train_R: NDArray[np.float64] | None = None
) -> LossGap:
    """Return the gaps from each text's mean log-probability (a loss with its sign turned)."""
    loss = -float(np.mean(test_I))
    return LossGap(loss + float(np.mean(ref_C)), None if train_R is None else loss + float(np.mean(train_R)))
