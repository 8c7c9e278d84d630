//! Which transactions are wanted, from whom, and what becomes of those that came.
