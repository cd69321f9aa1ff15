import Fencing
import Model
import Pair

/// Another host, and the ways to it.
package struct Host: Sendable {
    package let name: NodeName
    package let settings: Configuration.Peer
    package let secondPath: SecondPath
    /// Makes sure that it is off; nil where no command for that is configured.
    package let fence: PeerFence?
}
