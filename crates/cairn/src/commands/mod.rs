//! One module a command; each parses nothing but its own arguments and calls one room.

pub(crate) mod api;
pub(crate) mod gateway;
pub(crate) mod info;
pub(crate) mod node;
mod serving;
pub(crate) mod signet;
pub(crate) mod stamp;
pub(crate) mod up;
pub(crate) mod upgrade;
pub(crate) mod verify;
pub(crate) mod worker;
