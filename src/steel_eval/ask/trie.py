"""Plan the cheapest set of forward passes for many token sequences: each shared prefix is computed once.

All requests of a unit (a subject, a task) are put into one trie of tokens, laid out in preorder. Preorder has two
properties that make everything else simple. Node `j` is an ancestor of `i` exactly when `j <= i < end[j]`, so the
attention mask of any slice is one comparison of arrays. And of the nodes before a cut only the path from the root to
the first node after the cut is needed later, so the list may be cut anywhere, also in the middle of a question: a batch
is `budget` consecutive nodes, its memory does not depend on the length of a prompt, and the key-value cache between
batches is one path. Every node is computed once, which is what an ideal radix cache does.

Worked example: `AB1`, `AB2`, `AC` become the nodes A B 1 2 C with end = 5 4 3 4 5. With a budget of 3 the batches are
`A B 1` and `2 C`; between them the cache keeps A and B, because B is an ancestor of `2`.

Legend: N nodes, T nodes of a batch, P kept path, R rows of logits in a batch, Q requests, E (request, token) pairs.
No torch here: a plan is made once per tokenizer, prompt and data, and serves every checkpoint of a sweep.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Request:
    """Tokens of context and continuation together; the continuation starts at index `start` (at least 1)."""

    tokens: Sequence[int]
    start: int


@dataclass(frozen=True, slots=True)
class Batch:
    """One forward pass. `keep_P`: which columns of the cache before this batch stay (the path to its first node)."""

    tokens_T: Ints
    positions_T: Ints
    keep_P: Ints
    path_P: Ints  # preorder numbers of the kept columns
    first: int  # preorder number of the batch's first node
    rows_R: Ints  # columns of the batch at which logits are needed, ascending
    pair_row_E: Ints  # index into rows_R
    pair_token_E: Ints
    pair_request_E: Ints


@dataclass(frozen=True)
class Plan:
    """The trie in preorder. `plain_tokens` is what full prompts, one forward for each distinct one, would have cost."""

    token_N: Ints
    position_N: Ints
    end_N: Ints
    parent_N: Ints
    pair_node_E: Ints  # ascending
    pair_token_E: Ints
    pair_request_E: Ints
    n_requests: int
    plain_tokens: int

    @property
    def forwarded_tokens(self) -> int:
        """Tokens that pass through the model's body: the size of the trie."""
        return len(self.token_N)

    def batches(self, budget: int, rows: int) -> Iterator[Batch]:
        """Cut the trie into passes of at most `budget` tokens and `rows` rows of logits."""
        node_rows = np.unique(self.pair_node_E)
        first, columns = 0, np.zeros(0, np.int64)
        while first < len(self.token_N):
            stop = min(first + budget, len(self.token_N))
            at = int(np.searchsorted(node_rows, first))
            if at + rows < len(node_rows):
                stop = min(stop, int(node_rows[at + rows]))
            path_P = self._ancestors(first)
            a, b = np.searchsorted(self.pair_node_E, [first, stop])
            rows_R, pair_row_E = np.unique(self.pair_node_E[a:b], return_inverse=True)
            yield Batch(
                tokens_T=self.token_N[first:stop],
                positions_T=self.position_N[first:stop],
                keep_P=np.searchsorted(columns, path_P),
                path_P=path_P,
                first=first,
                rows_R=rows_R - first,
                pair_row_E=pair_row_E.reshape(-1),
                pair_token_E=self.pair_token_E[a:b],
                pair_request_E=self.pair_request_E[a:b],
            )
            columns = np.concatenate([path_P, np.arange(first, stop)])
            first = stop

    def mask(self, batch: Batch) -> NDArray[np.bool_]:
        """Return who sees whom in a batch, (T, P + T): each token its ancestors and itself."""
        node_T = np.arange(batch.first, batch.first + len(batch.tokens_T))
        column = np.concatenate([batch.path_P, node_T])
        seen = (column[None, :] <= node_T[:, None]) & (node_T[:, None] < self.end_N[column][None, :])
        return np.ascontiguousarray(seen)

    def _ancestors(self, node: int) -> Ints:
        path = []
        up = int(self.parent_N[node])
        while up >= 0:
            path.append(up)
            up = int(self.parent_N[up])
        return np.array(path[::-1], np.int64)


def make_plan(requests: Sequence[Request]) -> Plan:
    """Build the trie over the inputs (all tokens but the last) of `requests`.

    Raises ValueError where a request has no context or no continuation.
    """
    _check(requests)
    inputs_Q = [list(request.tokens[:-1]) for request in requests]
    token: list[int] = []
    position: list[int] = []
    parent: list[int] = []
    end: list[int] = []
    stack: list[int] = []  # the nodes of the previous input
    previous: list[int] = []
    pairs: list[tuple[int, int, int]] = []
    plain = 0
    for i in sorted(range(len(requests)), key=inputs_Q.__getitem__):
        inputs = inputs_Q[i]
        shared = _common(previous, inputs)
        if shared < len(inputs):  # else the same input as before: sorted, so none is a mere prefix of the one before it
            plain += len(inputs)
            for node in stack[shared:]:
                end[node] = len(token)
            new = range(len(token), len(token) + len(inputs) - shared)
            parent += [stack[shared - 1] if shared else -1, *new[:-1]]
            token += inputs[shared:]
            position += range(shared, len(inputs))
            end += [0] * len(new)
            stack = [*stack[:shared], *new]
            previous = inputs
        full, start = requests[i].tokens, requests[i].start
        pairs += [(stack[k - 1], full[k], i) for k in range(start, len(full))]
    for node in stack:
        end[node] = len(token)
    pairs.sort()
    columns = np.array(pairs, np.int64).reshape(-1, 3)
    token_N, position_N, end_N, parent_N = (np.array(x, np.int64) for x in (token, position, end, parent))
    node_E, token_E, request_E = (np.ascontiguousarray(columns[:, k]) for k in range(3))
    return Plan(token_N, position_N, end_N, parent_N, node_E, token_E, request_E, len(requests), plain_tokens=plain)


def _check(requests: Sequence[Request]) -> None:
    for request in requests:
        if not 1 <= request.start < len(request.tokens):
            raise ValueError(
                f"a request needs context and continuation; start {request.start} of {len(request.tokens)}"
            )


def _common(a: list[int], b: list[int]) -> int:
    """Return the length of the longest common prefix."""
    n = min(len(a), len(b))
    if a[:n] == b[:n]:
        return n
    low, high = 0, n  # a[:low] == b[:low], a[:high] != b[:high]
    while high - low > 1:
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    return low
