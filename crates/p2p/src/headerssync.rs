//! Headers of a chain whose work is not known yet: checked without being kept, then fetched again.
