"""Loads a signed sentence-embedding model and embeds two sentences.

    demo_load.py FOLDER PUBLIC_KEY
"""

import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import sentry
import torch
import transformers
from sentry.transformers import from_pretrained
from transformers import AutoTokenizer, BertModel

SENTENCES = ["The signature covers every byte of the model.", "Each byte of the model is covered by the signature."]

transformers.utils.logging.disable_progress_bar()


def embed(model: BertModel, tokenizer: transformers.PreTrainedTokenizerBase) -> torch.Tensor:
    """One vector of length 1 for each sentence: the mean over its tokens."""
    tokens = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    with torch.no_grad():
        vectors = model(**tokens).last_hidden_state
    mask = tokens["attention_mask"].unsqueeze(-1)
    return torch.nn.functional.normalize((vectors * mask).sum(1) / mask.sum(1))


def main() -> None:
    folder, public_key = sys.argv[1:]
    trust = sentry.PublicKey(public_key)
    try:
        model = from_pretrained(BertModel, folder, trust=trust)
        tokenizer = from_pretrained(AutoTokenizer, folder, trust=trust)
    except sentry.VerificationError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    verified = embed(model, tokenizer)
    print(f"cosine of the two sentences: {verified[0] @ verified[1]:.4f}")

    checked = sentry.verify_model(model, f"{folder}/model.sig", trust=trust)
    print(f"in memory: {checked.tensors} tensors are the signed ones, by {checked.signer}")

    unverified = embed(BertModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder))
    if not torch.equal(verified, unverified):
        sys.exit("the verified model embeds differently from the unverified one")
    print("the same numbers as without verification, bit for bit")


main()
