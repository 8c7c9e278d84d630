//! Who is kept out: bans that persist, and discouragement that does not.
