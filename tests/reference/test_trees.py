"""The trees against a second definition: RFC 9162, section 2.1.1, which splits from the top."""

import hashlib

import pytest
import trees
from examples import period_251


def top_down(tree, leaves):
    """The node over a list of leaves: left of the split is the largest power of two below their number."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return tree.node(top_down(tree, leaves[:split]), top_down(tree, leaves[split:]))


@pytest.mark.parametrize("tree", trees.TREES, ids=lambda tree: tree.name)
def test_the_shape_is_that_of_rfc_9162(tree):
    for count in range(1, 70):
        leaves = [bytes([index]) * len(tree.h(b"")) for index in range(count)]
        [top] = tree.levels(leaves)[-1]
        assert top == top_down(tree, leaves), count


def test_three_leaves_by_hand():
    def prefix(purpose):
        return b"sentry-ml/tree/v1/" + purpose + bytes(64 - 18 - 4)

    def sha256(*parts):
        return hashlib.sha256(b"".join(parts)).digest()

    message = period_251(8193)
    one, two, three = (sha256(prefix(b"leaf"), message[at : at + 4096]) for at in (0, 4096, 8192))
    top = sha256(prefix(b"node"), sha256(prefix(b"node"), one, two), three)
    expected = sha256(prefix(b"root"), b"\x01\x20\0\0\0\0\0\0", top)
    assert trees.TREES[0].digest(message) == expected


@pytest.mark.parametrize("tree", trees.TREES, ids=lambda tree: tree.name)
def test_what_a_careless_tree_confuses(tree):
    two_leaves = period_251(2 * trees.LEAF)
    left, right = tree.leaves(two_leaves)
    others = {
        "the two leaves' digests as a message": left + right,
        "a node's input as a message": tree.p(b"node") + left + right,
        "the last leaf twice": two_leaves + two_leaves[trees.LEAF :],
        "leaves exchanged": two_leaves[trees.LEAF :] + two_leaves[: trees.LEAF],
        "a zero more": two_leaves + b"\0",
    }
    digests = {tree.digest(message): what for what, message in others.items()}
    assert len(digests) == len(others) and tree.digest(two_leaves) not in digests
    # A message whose last leaf is odd, and the one where that leaf is there twice: CVE-2012-2459.
    three = period_251(3 * trees.LEAF)
    assert tree.digest(three) != tree.digest(three + three[2 * trees.LEAF :])


@pytest.mark.parametrize("tree", trees.TREES, ids=lambda tree: tree.name)
def test_the_size_of_a_leaf_matters(tree, monkeypatch):
    message = period_251(3 * trees.LEAF)
    digest = tree.digest(message)
    for size in (1024, 2048, 8192, 65536):
        monkeypatch.setattr(trees, "LEAF", size)
        assert tree.digest(message) != digest, size
