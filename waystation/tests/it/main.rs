//! `waystation import` looks at what it is given, as programs that people use have made it.

mod disks;
mod initrds;
mod workshop;
