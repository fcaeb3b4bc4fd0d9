//! PID 1 of the kiosk: boot, supervision, the session sequence and the wipe.
