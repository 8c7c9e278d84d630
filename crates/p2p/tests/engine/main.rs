//! Engines talking to each other, without sockets and in time that the test sets.

mod network;
mod sim;
