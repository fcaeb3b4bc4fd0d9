//! The kiosk's network against real servers and a real kernel: who tells the time, what a diagnosis finds, what DHCP gives,
//! and a path that swallows big packets. Only root can become the probe's user and make networks.

mod black_hole;
mod dhcp;
mod diagnosis;
mod links;
mod places;
mod time;
