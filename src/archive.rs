//! Bounded, traversal-proof tar.gz in and out, one pass with its hash.
