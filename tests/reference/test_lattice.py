"""The lattice and tables: what must not matter, and what must."""

import lattice
import pytest
import tables


def samples(count):
    return [(lattice.path_id(str(number)), bytes([number]) * 32) for number in range(count)]


def state_of(source, entries):
    state, tag = lattice.State(), lattice.source_tag(source)
    for entry in entries:
        state.add(tag, *entry)
    return state


def test_order_partition_and_removal():
    entries = samples(30)
    whole = state_of("train", entries)
    assert state_of("train", entries[::-1]).to_bytes() == whole.to_bytes()
    sums = lattice.State()
    for worker in range(4):
        sums.merge(state_of("train", entries[worker::4]))
    assert (sums.to_bytes(), sums.digest()) == (whole.to_bytes(), whole.digest())
    for entry in entries[10:]:
        whole.remove(lattice.source_tag("train"), *entry)
    assert whole.digest() == state_of("train", entries[:10]).digest()


def test_everything_of_a_sample_matters():
    [(sample_id, digest), *_] = samples(2)
    seen = {state_of("train", [(sample_id, digest)]).digest()}
    seen.add(state_of("test", [(sample_id, digest)]).digest())
    seen.add(state_of("train", [(sample_id + 1, digest)]).digest())
    seen.add(state_of("train", [(sample_id, digest[::-1][:31] + b"x")]).digest())
    assert len(seen) == 4


def test_an_id_that_two_workers_have_seen_is_refused():
    one, other = lattice.Partial("train"), lattice.Partial("train")
    for entry in samples(5):
        one.insert(*entry)
    other.insert(*samples(5)[4])
    with pytest.raises(lattice.LatticeError, match="twice"):
        one.merge(other)
    with pytest.raises(lattice.LatticeError, match="sources"):
        one.merge(lattice.Partial("test"))


def test_counts_are_bounded():
    full = lattice.State(count=lattice.MAX_SAMPLES)
    with pytest.raises(lattice.LatticeError):
        full.add(lattice.source_tag("train"), 1, bytes(32))
    with pytest.raises(lattice.LatticeError):
        lattice.State().digest()
    with pytest.raises(lattice.LatticeError):
        lattice.State().remove(lattice.source_tag("train"), 1, bytes(32))
    for name in ("", "x" * 4097):
        with pytest.raises(lattice.LatticeError):
            lattice.source_tag(name)


def test_a_table_and_its_state_agree():
    encoded = tables.table(samples(7)[::-1])
    assert tables.parse(encoded) == sorted(samples(7))
    assert tables.state("train", encoded).digest() == state_of("train", samples(7)).digest()
    with pytest.raises(tables.TableError):
        tables.table([*samples(3), samples(3)[1]])
