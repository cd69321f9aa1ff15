import Model

/// What the model says of an epoch, beside what was measured; times in milliseconds.
public struct EpochPrediction: Codable, Hashable, Sendable {
    public typealias Bound = PauseBound

    public var pause: Double
    public var bound: Bound
    public var acknowledge: Double
    public var linkBytes: Double

    public init(pause: Double, bound: Bound, acknowledge: Double, linkBytes: Double) {
        self.pause = pause
        self.bound = bound
        self.acknowledge = acknowledge
        self.linkBytes = linkBytes
    }

    enum CodingKeys: String, CodingKey {
        case bound
        case pause = "pause_ms"
        case acknowledge = "acknowledge_ms"
        case linkBytes = "link_bytes"
    }
}

/// One epoch: what it cost, and what the model says that one of so many pages costs.
public struct EpochRow: Codable, Hashable, Sendable {
    public var measured: EpochReport
    /// Nil while too few epochs were seen to learn from.
    public var model: EpochPrediction?

    public init(measured: EpochReport, model: EpochPrediction?) {
        self.measured = measured
        self.model = model
    }
}

/// The last epochs of a VM at its primary, oldest first.
public struct EpochList: Codable, Hashable, Sendable {
    public var vm: VMName
    public var epochs: [EpochRow]
    public var model: ModelReport?

    public init(vm: VMName, epochs: [EpochRow], model: ModelReport?) {
        self.vm = vm
        self.epochs = epochs
        self.model = model
    }

    public static let limitRange = 1...256
}
