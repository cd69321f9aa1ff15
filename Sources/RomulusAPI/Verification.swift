import Model

/// Compare the replica of a protected VM with its guest.
public struct VerifyRequest: Codable, Hashable, Sendable {
    public var vm: VMName

    public init(vm: VMName) {
        self.vm = vm
    }
}

/// What is known of a replica's memory so far, or in the end. Of `pages`, each is in the end one of equal, differing, discarded
/// and hot; `docs/VERIFY.md` explains them.
public struct Verification: Codable, Hashable, Sendable {
    /// A page that differed.
    public struct Difference: Codable, Hashable, Sendable {
        /// QEMU's name of the RAM block, such as `pc.ram`.
        public var block: String
        /// Number of the page (4096 bytes) within the block.
        public var page: UInt32

        public init(block: String, page: UInt32) {
            self.block = block
            self.page = page
        }
    }

    public var vm: VMName
    /// The host that has the replica.
    public var peer: NodeName
    /// False while it goes on.
    public var isOver: Bool
    public var pages: Int
    /// Pages that were compared: equal and differing ones.
    public var compared: Int
    public var equal: Int
    public var differing: Int
    /// Of the differing ones: those that were sent again and found equal then.
    public var mended: Int
    /// Pages that the guest gave back, which may differ.
    public var discarded: Int
    /// Pages that were written whenever they were looked at.
    public var hot: Int
    /// Pages of ROMs and the like, which are not replicated by epochs and are in no other count.
    public var leftOut: Int
    /// How many checkpoints pages were compared at, and the first and last of them; nil before any was.
    public var epochs: Int
    public var firstEpoch: UInt64?
    public var lastEpoch: UInt64?
    public var seconds: Double
    /// The first pages that differed, at most `differencesMax`.
    public var differences: [Difference]

    public static let differencesMax = 100

    public init(
        vm: VMName, peer: NodeName, isOver: Bool, pages: Int, compared: Int, equal: Int, differing: Int, mended: Int,
        discarded: Int, hot: Int, leftOut: Int, epochs: Int, firstEpoch: UInt64?, lastEpoch: UInt64?, seconds: Double,
        differences: [Difference]
    ) {
        self.vm = vm
        self.peer = peer
        self.isOver = isOver
        self.pages = pages
        self.compared = compared
        self.equal = equal
        self.differing = differing
        self.mended = mended
        self.discarded = discarded
        self.hot = hot
        self.leftOut = leftOut
        self.epochs = epochs
        self.firstEpoch = firstEpoch
        self.lastEpoch = lastEpoch
        self.seconds = seconds
        self.differences = differences
    }

    enum CodingKeys: String, CodingKey {
        case vm, peer, pages, compared, equal, differing, mended, discarded, hot, epochs, seconds, differences
        case isOver = "over"
        case leftOut = "left_out"
        case firstEpoch = "first_epoch"
        case lastEpoch = "last_epoch"
    }
}

extension Verification {
    /// How much of it is done, 0 to 1.
    public var ratio: Double { pages == 0 ? 1 : Double(compared + discarded + hot) / Double(pages) }

    /// The whole result in one sentence.
    public var sentence: String {
        var parts = ["\(compared) of \(pages) pages were compared", "\(differing) differ"]
        if mended > 0 { parts.append("\(mended) of those were sent again and are equal now") }
        if hot > 0 { parts.append("\(hot) were written all the time") }
        if discarded > 0 { parts.append("\(discarded) were given back by the guest") }
        return parts.joined(separator: ", ")
    }
}
