//! The network commands of the image, written small: what a lab on pods needs, in the formats people know.

pub(crate) mod httpd;
pub(crate) mod ip;
pub(crate) mod nc;
pub(crate) mod netlink;
pub(crate) mod ping;
pub(crate) mod resolve;
pub(crate) mod ss;
pub(crate) mod wget;
