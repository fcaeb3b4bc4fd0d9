//! Lines with descriptors: the codec against an oracle, both front ends over the kernel's sockets, and hostile peers.

mod entries;
mod hostile;
mod kernel;
mod smoke;
