/// The language between an agent and whoever asks it: requests, replies, errors, paths, and a client that speaks them.
///
/// Owns no state of an agent. The top folder holds the values that travel (their JSON is described in `docs/API.md`),
/// `Client` the HTTP/1.1 client over the agent's unix socket, `Text` what `romulus` prints. Imports `Model`,
/// FoundationEssentials for JSON and NIO for the client; nothing in here is used by the epoch path.
public enum Romulus {
    /// The version of this build: of the agent, of the CLI, and of neither the wire nor the API.
    public static let version = "0.1.0"

    public static let defaultSocket = "/run/romulus/romulusd.sock"
}
