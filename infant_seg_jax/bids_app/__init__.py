"""`infant-seg-bids`, the BIDS App (Gorgolewski et al., PLOS Computational Biology 13(3), 2017)."""
