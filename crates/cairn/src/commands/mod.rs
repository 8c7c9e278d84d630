//! One module a command; each parses nothing but its own arguments and calls one room.

pub(crate) mod up;
