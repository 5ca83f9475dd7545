"""What the fixtures share: an honest model, an honest signer, and a judge."""
