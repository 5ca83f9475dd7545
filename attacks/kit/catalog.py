"""The cases that the threat model names, by class, and what becomes of each.

Every name has a fixture here or a line in `LATER`; `run.py --check-readme` sees to it.
"""

NAMED = {
    "manifest": """
        file_added file_removed file_renamed two_files_swapped one_bit_flip file_truncated
        file_extended_by_zeroes empty_file_added empty_manifest duplicate_resource_name
        resource_order_changed ignored_file_is_loaded""",
    "path": """
        dotdot_name absolute_name backslash_drive_nul_name symlink_escape symlink_cycle
        fifo_or_device unicode_nfc_nfd_twins non_utf8_name
        signature_path_inside_model_hides_nothing_else""",
    "safetensors": """
        tensor_swap_equal_shape tensor_rename dtype_reinterpret_f16_bf16
        shape_transposed_same_bytes bytes_moved_across_tensor_boundary header_truncated
        header_len_u64_max header_len_overflow_add shape_product_overflow offsets_overlap
        offsets_hole offsets_reversed_or_past_end zero_size_tensor_reuses_offset
        duplicate_json_key_header polyglot_trailing_data metadata_non_string
        index_json_points_outside pickle_file_present pickle_disguised_as_npy_object_dtype""",
    "limits": """
        bundle_oversize json_depth_bomb million_tensors_header huge_declared_sparse_file
        compressed_bomb cert_chain_1000""",
    "time of check": """
        file_replaced_between_verify_and_load file_mutated_during_hash directory_swapped_by_rename
        noncontiguous_or_expanded_tensor side_stream_write_race""",
    "envelope": """
        payload_type_confusion wrong_statement_type_or_predicate payload_reserialised_not_raw
        signatures_empty two_signatures_one_bad signature_stripped signature_from_other_model
        bundle_duplicate_keys unknown_media_type digest_wrong_length
        digest_uppercase_or_whitespace_hex base64_noncanonical subject_root_mismatch
        annotation_equivocation files_renamed_same_root other_model_same_signer
        older_version_same_signer train_test_statement_swapped""",
    "algorithm": """
        unknown_algorithm_name alg_downgrade alg_label_key_mismatch curve_not_allowed rsa_1024
        explicit_ec_params ecdsa_r_or_s_zero_or_ge_n ber_not_der_sig point_off_curve""",
    "certificate": """
        expired_now_no_timestamp not_yet_valid ca_leaf_without_permission wrong_eku any_eku
        ku_missing_digital_signature leaf_is_ca path_len_exceeded self_signed_not_in_roots
        root_supplied_in_bundle name_constraint_violation san_suffix_match issuer_mismatch
        identity_regex_unanchored no_identity_given""",
    "transparency log": """
        sct_missing_or_bad rekor_set_bad inclusion_hash_flipped log_index_out_of_range
        checkpoint_wrong_root_origin_or_key entry_body_mismatch integrated_time_outside_cert
        tsa_untrusted_or_payload_mismatch""",
    "tree": """
        second_preimage_node_as_leaf odd_leaf_duplicated chunk_size_changed block_permutation""",
    "dataset": """
        sample_removed sample_added sample_duplicated_65536_times label_flipped
        labels_swapped_between_samples sample_moved_between_sources unsigned_extra_source
        source_signature_deleted partial_epoch last_batch_padded_repeats padding_ambiguity
        hasher_reused_without_reset prefetched_not_delivered rogue_source_state
        repeat_across_workers table_disagrees_with_state""",
    "device": """
        kernel_launch_error device_digest_buffer_unwritten out_of_memory_midway
        library_planted_in_cwd gpu_lost_falls_back_silently""",
}  # fmt: skip

# Cases without a fixture yet, by name or by whole class, and why.
LATER = {
    "side_stream_write_race": "needs a GPU loader",
    **dict.fromkeys(
        (
            *("sct_missing_or_bad", "rekor_set_bad", "inclusion_hash_flipped", "log_index_out_of_range"),
            *("checkpoint_wrong_root_origin_or_key", "entry_body_mismatch", "integrated_time_outside_cert"),
        ),
        "the Sigstore method is refused as a whole: sigstore_bundle_refused",
    ),
}

# Cases of ours that the threat model does not name, and what asks for them.
OURS = {
    "shard_layout": "OMS: shards cover a file without gap or overlap",
    "shard_name": "OMS: `path:start:end`, the last two are numbers",
    "shard_size": "OMS: with shards, never with files",
    "tensor_added_to_the_file": "rule 12: the model is bound by all its tensors",
    "tensor_left_out": "rule 12, by a malicious signer",
    "tensor_listed_twice": "rule 12, by a malicious signer",
    "header_not_json": "rule 11: strict JSON",
    "header_fields": "rule 11: strict JSON",
    "header_dtype": "rule 12: a dtype that nobody knows",
    "header_depth_bomb": "rule 11: depth",
    "header_over_100_mb": "rule 15: a test for each limit",
    "million_resources": "rule 15: a test for each limit",
    "name_over_4_kib": "rule 15: a test for each limit",
    "bundle_not_json": "rule 11: strict JSON",
    "bundle_of_arrays": "rule 11: one meaning, whoever reads it",
    "parser_private_key": "rule 11: one meaning, whoever reads it",
    "fields": "rule 11: unknown, missing or ill-typed fields",
    "verification_material": "OMS: one method a bundle",
    "certificate_bundle_refused": "OMS: a key's trust says nothing of a certificate",
    "certificate_to_sign_with": "rule 5: nothing is written that no verifier accepts",
    "ku_missing_cert_sign": "rule 9: key usage, of authorities",
    "critical_extension": "RFC 5280: an unknown critical extension is refused",
    "ber_certificate": "rule 6: strict DER",
    "many_timestamps": "rule 15: a test for each limit",
    "long_timestamp": "rule 15: a test for each limit",
    "no_rule": "policy: an artifact that no rule is about is refused",
    "first_rule_decides": "policy: rules in their order",
    "artifact_name": "policy: names that could be read in two ways",
    "signed_before": "policy: signed_after",
    "statement_kind": "policy: statements",
    "hash_not_allowed": "rule 6: the verifier's list, not the bundle's",
    "signature_algorithm_not_allowed": "rule 6: the verifier's list, not the bundle's",
    "pins_are_not_enough": "policy: and the bytes are checked all the same",
    "too_few_signers": "policy: threshold",
    "same_signer_twice": "policy: each signer counts once",
    "signature_of_a_stranger": "policy: what was given has to count",
    "signatures_without_a_policy": "one signature, unless a policy counts several",
    "signatures_disagree": "policy: several signatures say the same",
    "file_hidden_by_one_signer": "policy: hidden is what all leave out",
    "annotation_of_one_signer": "policy: annotated is what all annotate",
    "policy_malformed": "a policy is strict",
    "policy_missing": "what could not be read was not checked",
    "policy_version": "a policy is strict",
    "policy_unknown_field": "a condition that is not known would not be checked",
    "policy_without_rules": "a policy that asks for nothing",
    "policy_unknown_signer": "a policy that contradicts itself",
    "policy_bad_signer": "a policy names usable signers",
    "policy_signer_twice_under_two_names": "each signer counts once",
    "policy_threshold": "a policy that asks for nothing, or too much",
    "policy_empty_list": "a policy that asks for nothing",
    "policy_entry_twice": "each signer counts once",
    "policy_shadowed_rule": "a rule that never decides",
    "policy_bad_pattern": "patterns that could be read in two ways",
    "policy_bad_pin": "a pin that nothing meets",
    "policy_contradiction": "a policy that contradicts itself",
    "policy_unknown_value": "a policy is strict",
    "sigstore_bundle_refused": "stands for most of the class transparency log until that method comes",
    "annotation_malformed": "rule 12: what is ours is strict",
    "version_annotation": "rule 12: what is ours is strict",
    "key_file": "rules 6 and 7: keys",
    "file_vanishes": "rule 14: size and identity are checked again",
    "file_unreadable": "what could not be read was not checked",
    "file_missing": "what could not be read was not checked",
    "signature_not_writable": "rule 5: files are written atomically",
    "full_disk": "rule 5: files are written atomically",
    "killed_while_signing": "rule 5: files are written atomically",
    "sample_changed": "rule 13, as a label",
    "id_twice": "rule 13: a repeated id is an error",
    "id_rule_changed": "datasets: where ids come from is signed",
    "field_left_out_of_the_statement": "datasets: every field is signed",
    "table_changed": "samples: each part of a table is signed",
    "table_not_in_order": "samples: ids ascend strictly",
    "table_of_another_dataset": "samples: each part of a table is signed",
    "table_of_another_size": "datasets: a table has every sample of its source",
    "table_outside": "OMS: names of files are relative",
    "unequal_arrays": "samples: a sample has a value in every field",
    "unequal_batch": "samples: a sample has a value in every field",
    "damaged_array": "datasets: a file that can be read in one way",
    "damaged_archive": "datasets: a file that can be read in one way",
    "damaged_table": "datasets: a file that can be read in one way",
    "corrupt_parquet": "datasets: a file that can be read in one way",
    "number_spelled_otherwise": "datasets: a file that can be read in one way",
    "two_formats": "datasets: one format",
    "no_samples": "samples: at least one",
    "fault_while_running": "rule 3: launch and synchronisation are both checked",
    "wrong_digest_self_test": "rule 3: a GPU that computes wrongly is not used",
    "no_driver": "without the GPU that was asked for nothing is hashed elsewhere",
    "old_driver": "without the GPU that was asked for nothing is hashed elsewhere",
    "no_device": "without the GPU that was asked for nothing is hashed elsewhere",
    "old_device": "without the GPU that was asked for nothing is hashed elsewhere",
    "hash_not_on_a_gpu": "without the GPU that was asked for nothing is hashed elsewhere",
}


def names(group: str) -> list[str]:
    """The names of one class, in the threat model's order."""
    return NAMED.get(group, "").split()
