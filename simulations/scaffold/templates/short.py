"""Keys of a federation that ends within two minutes on two cores."""

SHORT = {
    ("task", "clients"): 4,
    ("rounds", "warmup"): 6,
    ("rounds", "sparsify"): 2,
    ("rounds", "finetune"): 2,
    ("rounds", "cuts"): 2,
    ("rounds", "final"): 6,
    ("rounds", "cohort"): 4,
    ("rounds", "minimum"): 2,
}
