/// Making sure that a host is off: another one by a command that the operator configures, this one by its watchdog.
///
/// Owns the fence commands' processes and the watchdog's device. Decides nothing: when a peer is fenced and what follows
/// is in Protocol; `docs/FENCING.md` has the whole. May call LinuxSystem and CLinux.
