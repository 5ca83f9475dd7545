"""Class dataset, part three: samples on their way to training, met by the Python package. The programs are in kit/train.py."""

from kit.case import rejected
from kit.datasets import CSV, Dataset, added, another, changed, honest

case = rejected("dataset")


def with_tables(world, program, **options):
    return Dataset(world).signed().training(program, **options)


def without_tables(world, program, **options):
    return Dataset(world).without_tables().training(program, **options)


def one_source(world):
    """For torch's loader, which reads one."""
    return Dataset(world, CSV, {"train": honest()["train"]})


# -- epochs ---------------------------------------------------------------------------------


@case("epoch_incomplete", naive=False)
def partial_epoch(world):
    return with_tables(world, "stops_early")


@case("epoch_incomplete", naive=False)
def partial_epoch__without_tables(world):
    return without_tables(world, "stops_early")


@case("epoch_incomplete", naive=False)
def partial_epoch__one_sample(world):
    return with_tables(world, "leaves_out_one")


@case("epoch_incomplete", naive=False)
def partial_epoch__one_source(world):
    return with_tables(world, "leaves_out_a_source")


@case("epoch_incomplete", naive=False)
def partial_epoch__one_source_without_tables(world):
    return without_tables(world, "leaves_out_a_source")


@case("epoch_incomplete", naive=False)
def partial_epoch__last_batch_dropped_by_torch(world):
    return one_source(world).signed().training("drops_the_last")


@case("sample_repeated", naive=False)
def last_batch_padded_repeats(world):
    return without_tables(world, "pads_the_last")


@case("sample_repeated", naive=False)
def last_batch_padded_repeats__across_ranks(world):
    return without_tables(world, "pads_across_ranks")


@case("epoch_incomplete", naive=False)
def last_batch_padded_repeats__in_place_of_the_last(world):
    """With tables a sample that comes once more does no harm, but it stands for no other."""
    return with_tables(world, "pads_in_place_of_the_last")


@case("sample_repeated", naive=False)
def last_batch_padded_repeats__in_place_of_the_last_without_tables(world):
    return without_tables(world, "pads_in_place_of_the_last")


@case("sample_repeated", naive=False)
def sample_duplicated_65536_times__delivered(world):
    return without_tables(world, "delivers_one_again")


@case("epoch_incomplete", naive=False)
def sample_duplicated_65536_times__in_place_of_all(world):
    return with_tables(world, "delivers_one_in_place_of_all")


@case("epoch_incomplete", naive=False)
def prefetched_not_delivered(world):
    return with_tables(world, "counts_what_was_read_ahead")


@case("epoch_incomplete", naive=False)
def prefetched_not_delivered__without_tables(world):
    return without_tables(world, "counts_what_was_read_ahead")


@case("epoch_incomplete", naive=False)
def prefetched_not_delivered__by_workers_of_torch(world):
    return one_source(world).signed().training("leaves_a_loader_with_workers")


@case("epoch_incomplete", naive=False)
def prefetched_not_delivered__one_of_two_joined(world):
    return with_tables(world, "joins_what_was_not_delivered")


@case("epoch_incomplete", naive=False)
def hasher_reused_without_reset(world):
    return with_tables(world, "finishes_twice")


@case("epoch_incomplete", naive=False)
def hasher_reused_without_reset__without_tables(world):
    return without_tables(world, "finishes_twice")


@case("sample_repeated", naive=False)
def hasher_reused_without_reset__after_an_incomplete_epoch(world):
    return without_tables(world, "goes_on_after_an_incomplete_epoch")


@case("sample_repeated", naive=False)
def repeat_across_workers(world):
    return one_source(world).without_tables().training("repeats_across_workers")


@case("sample_repeated", naive=False)
def repeat_across_workers__ranks(world):
    return without_tables(world, "repeats_across_ranks")


@case("epoch_incomplete", naive=False)
def repeat_across_workers__half_by_each(world):
    return with_tables(world, "repeats_half_across_ranks")


@case("sample_repeated", naive=False)
def repeat_across_workers__half_by_each_without_tables(world):
    return without_tables(world, "repeats_half_across_ranks")


@case("epoch_incomplete", naive=False)
def repeat_across_workers__one_rank_merged_twice(world):
    return with_tables(world, "merges_a_rank_twice")


@case("sample_repeated", naive=False)
def repeat_across_workers__one_rank_merged_twice_without_tables(world):
    return without_tables(world, "merges_a_rank_twice")


# -- states of other processes --------------------------------------------------------------


@case("dataset_differs", naive=False)
def rogue_source_state__of_a_rank(world):
    """Its ids are the signed ones, and its sum is not: the files were others."""
    return without_tables(world, "merges_another_sum", differences=another("test"))


@case("epoch_state", naive=False)
def rogue_source_state__of_a_rank_with_an_id_twice(world):
    return without_tables(world, "merges_an_id_twice")


@case("epoch_state", naive=False)
def rogue_source_state__of_a_rank_with_more_samples(world):
    return with_tables(world, "merges_more_than_was_signed")


@case("epoch_state", naive=False)
def rogue_source_state__of_a_rank_cut_off(world):
    return with_tables(world, "merges_a_state_cut_off")


@case("epoch_state", naive=False)
def rogue_source_state__of_a_rank_cut_off_without_tables(world):
    return without_tables(world, "merges_a_state_cut_off")


@case("epoch_state", naive=False)
def rogue_source_state__of_a_rank_with_more_behind_it(world):
    return without_tables(world, "merges_a_state_with_more")


def two_datasets(world):
    """Another dataset of the same signer, with the same ids: `other`."""
    other = Dataset(world, folder="other")
    for sample in other.sources["train"]:
        sample["text"] = sample["text"].upper()
    other.write()
    other.signed()
    return Dataset(world).signed()


@case("epoch_state", naive=False)
def rogue_source_state__of_another_dataset(world):
    return two_datasets(world).training("goes_on_with_another_dataset")


@case("epoch_state", naive=False)
def rogue_source_state__receipts_of_another_dataset(world):
    return two_datasets(world).training("delivers_a_receipt_of_another_dataset")


# -- samples --------------------------------------------------------------------------------


def spoilt(world, change, differences, program="epoch", sources=None, has_tables=True):
    """Files that were changed after they were signed; the program reads them, and asks for every sample."""
    data = Dataset(world, CSV, sources).signed(has_tables)
    change(data.sources)
    data.write()
    return data.training(program, differences=differences)


def flip(sources):
    sources["train"][1]["label"] = 2


def swap(sources):
    one, two = sources["train"][:2]
    one["label"], two["label"] = two["label"], one["label"]


def add(sources):
    sources["train"].append({"id": 77, "label": 1, "text": "poisoned"})


def remove(sources):
    del sources["train"][4]


def move(sources):
    sources["test"].append(sources["train"].pop(4))


def only_train():
    return {"train": honest()["train"]}


@case("dataset_differs", naive=False)
def label_flipped__delivered(world):
    return spoilt(world, flip, changed("train", 11))


@case("dataset_differs", naive=False)
def label_flipped__delivered_by_workers_of_torch(world):
    """A worker finds it: the error comes out of it as it is."""
    return spoilt(world, flip, changed("train", 11), "workers", only_train())


@case("dataset_differs", naive=False)
def label_flipped__delivered_without_tables(world):
    """Found at the end of the epoch."""
    return spoilt(world, flip, another("train"), has_tables=False)


@case("dataset_differs", naive=False)
def labels_swapped_between_samples__delivered(world):
    return spoilt(world, swap, changed("train", 10, 11))


@case("dataset_differs", naive=False)
def labels_swapped_between_samples__delivered_without_tables(world):
    return spoilt(world, swap, another("train"), has_tables=False)


@case("dataset_differs", naive=False)
def sample_added__delivered(world):
    return spoilt(world, add, added("train", 77))


@case("dataset_differs", naive=False)
def sample_added__delivered_without_tables(world):
    return spoilt(world, add, another("train"), has_tables=False)


@case("epoch_incomplete", naive=False)
def sample_removed__delivered(world):
    return spoilt(world, remove, None)


@case("epoch_incomplete", naive=False)
def sample_removed__delivered_without_tables(world):
    return spoilt(world, remove, None, has_tables=False)


@case("dataset_differs", naive=False)
def sample_moved_between_sources__delivered(world):
    return spoilt(world, move, added("test", 14))


@case("dataset_differs", naive=False)
def sample_moved_between_sources__by_what_the_program_says(world):
    return with_tables(world, "source_of_others", differences=added("test", 10, 11))


@case("dataset_differs", naive=False)
def unsigned_extra_source__delivered(world):
    return with_tables(world, "source_that_nobody_signed", differences={("unsigned_source", "extra", None)})


@case("dataset_differs", naive=False)
def labels_swapped_between_samples__ids_by_what_the_program_says(world):
    return with_tables(world, "ids_of_others", differences=changed("train", *range(10, 18)))


@case("dataset_differs", naive=False)
def padding_ambiguity__delivered(world):
    return with_tables(world, "padded_text", differences=changed("train", *range(10, 18)))


@case("usage", naive=False)
def unequal_batch(world):
    return with_tables(world, "fewer_values_than_samples")


@case("usage", naive=False)
def unequal_batch__ids(world):
    return with_tables(world, "fewer_ids_than_samples")


@case("dataset_differs", naive=False)
def unequal_batch__field_left_out(world):
    return with_tables(world, "a_field_is_left_out", differences={("changed_field", "label", None)})
