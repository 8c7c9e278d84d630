//! Messages to and from bytes.
