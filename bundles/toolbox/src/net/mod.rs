//! The network commands of the image, written small: what a lab on pods needs, in the formats people know.

pub(crate) mod ip;
pub(crate) mod netlink;
