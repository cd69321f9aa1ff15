/// The agent of one host: sessions for any number of VMs, as primary or standby, and what operators see of them.
///
/// Owns the sessions, the configuration, the HTTP API and the metrics; may call everything below. Decides nothing about
/// epochs: that is the protocol's.
