//! Engines talking to each other, and to strangers, without sockets and in time that the test sets.

mod blocks;
mod compact;
mod network;
mod relay;
mod serving;
mod sim;
mod stranger;
mod time;
