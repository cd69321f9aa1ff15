import Model

/// The guest of a standby: started beforehand, waiting for its state; or started anew, with its disk alone. Used by one thread
/// at a time.
///
/// What it throws are whole sentences: `refused` while it is being made, `qemu` afterwards.
public protocol StandbyGuest: AnyObject {
    var pid: Int32 { get }
    /// Readable once its process has ended.
    var exitDescriptor: Int32 { get }
    /// How it ended, with its last words; nil while it runs.
    var ending: String? { get }
    /// It has its state, and stands still: so an earlier run of the agent left it.
    var isLoaded: Bool { get }
    /// The threads that serve it, without its vCPUs.
    func servingThreads() throws(SessionError) -> [Int32]
    /// Makes the way out for frames of `nic`, as the primary's description names it. `index` is the NIC's number in the session.
    func outlet(of nic: GuestNIC, index: UInt16) throws(SessionError) -> any NICOutlet

    /// Loads the state; the guest stands still afterwards, with its disks active, and nothing of it leaves. After a failure it is
    /// of no further use.
    ///
    /// - Parameter memory: the tracked blocks that lie in no file which it shares, in the order of the description.
    func load(_ memory: [BlockContents], deviceState: [UInt8]) throws(SessionError)
    /// Lets the guest run, once its state is loaded; returns when it runs. One that was started anew boots, and the network is
    /// told where it is.
    func run() throws(SessionError)
    /// Once the guest runs: takes back that memory in shared files is left out of its state, with which an ordinary migration of
    /// it would fail.
    func forgetSharing() throws(SessionError)
    /// Leaves it to run on by itself.
    func close()
    /// Ends it at once and waits until it is gone.
    func kill()
}

/// What a RAM block holds: whole pages, valid for the call that they are given to.
public struct BlockContents {
    /// The block's number in the description.
    public var block: Int
    public var bytes: UnsafeRawBufferPointer

    public init(block: Int, bytes: UnsafeRawBufferPointer) {
        self.block = block
        self.bytes = bytes
    }
}

/// The way out at a standby for the frames of one NIC, in place before it is needed.
public protocol NICOutlet: AnyObject {
    /// Lets frames out: be32 length and bytes for each. What cannot leave is lost, as networks lose frames.
    func send(_ frames: [UInt8])
    func remove() throws(SessionError)
}
