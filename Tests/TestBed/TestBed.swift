/// The test bed: two hosts, a guest LAN and a client on one machine, with real QEMU guests and real taps.
///
/// It owns network namespaces, the processes in them, the guest's image and the verifiers that say what a guest lost.
/// It may call the system's tools (`ip`, `nsenter`, `qemu-system-x86_64`, `qemu-img`, `apt-get download`, `dpkg`, `gcc`)
/// and may import nothing of the product, so that a fault of the product cannot hide in the bed. `Bed` is the door:
///
///     try await Bed.with("failover") { bed in
///         let image = try GuestImage.build()
///         let vm = try GuestVM.start(on: bed.a, image: image, .init())
///         try await vm.waitUntilReady()
///         ...
///     }
import Foundation

/// What went wrong with the bed, in one sentence that names the thing and the way out.
public struct BedError: Error, CustomStringConvertible, Equatable {
    public let description: String
    public init(_ description: String) { self.description = description }
}

/// Asks `condition` every 5 ms until it gives a value. The things of the bed live in other processes, so there is
/// nothing to wait on but their traces; the pause between two looks leaves the thread to others.
@discardableResult
public func eventually<Value>(
    _ what: String, within limit: Duration, _ condition: () throws -> Value?
) async throws -> Value {
    let end = ContinuousClock.now + limit
    while true {
        if let value = try condition() { return value }
        if ContinuousClock.now >= end { throw BedError("\(what) did not happen within \(limit).") }
        try await Task.sleep(for: .milliseconds(5))
    }
}

/// Where the programs of this build lie: beside the one that runs now.
public enum Programs {
    public static let directory = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        .deletingLastPathComponent()

    /// The path of a program of this package, such as `romulusd`.
    public static func path(_ name: String) throws(BedError) -> String {
        let path = directory.appendingPathComponent(name).path
        guard FileManager.default.isExecutableFile(atPath: path) else {
            throw BedError("\(path) does not exist; build the whole package first (`make build`).")
        }
        return path
    }
}
