import Model
import PKI
import Registers
import Synchronization
import TestBed
import Transport

/// A witness on loopback that can be stopped, opened again, robbed of its disk or given an old one.
final class WitnessBed: Sendable {
    let scratch: Scratch
    let trust: Trust
    let directory: String
    let reports = Tally<String>()
    let port = 7320
    private let server = Mutex<WitnessServer?>(nil)

    init(_ scratch: Scratch) async throws {
        self.scratch = scratch
        trust = try Trust(scratch)
        directory = try scratch.folder("witness")
        try await start()
    }

    func start() async throws {
        // The store of before is let go of with its last link.
        let store = try await eventually("the end of the old store", within: .seconds(20)) {
            do {
                return try WitnessStore(directory: directory)
            } catch WitnessStoreError.inUse {
                return nil
            }
        }
        while true {
            do {
                let started = try await serve(store)
                server.withLock { $0 = started }
                return
            } catch let error as LinkError {
                // A process that another test is just starting still has a copy of the old socket.
                guard case .cannotListen = error.cause else { throw error }
                try await Task.sleep(for: .milliseconds(5))
            }
        }
    }

    private func serve(_ store: WitnessStore) async throws -> WitnessServer {
        let reports = reports
        return try await WitnessServer.start(
            store: store, host: scratch.address, port: port, identity: trust.identity("gamma"),
            nodes: ["alpha", "beta"], rights: [vm("private"): ["alpha"]], group: scratch.group
        ) { report in
            switch report {
            case .refused(let error): reports.add("refused: \(error.cause)")
            case .read: reports.add("read")
            case .changed: reports.add("changed")
            case .conflict: reports.add("conflict")
            case .amnesic: reports.add("amnesic")
            case .failed(let error): reports.add("failed: \(error)")
            case .denied(let vm, let node): reports.add("denied: \(vm) to \(node)")
            }
        }
    }

    func stop() async {
        let server = server.withLock { $0.take() }
        await server?.shutdown()
    }

    func client(
        _ name: String = "alpha", memory: String? = nil, authority: String = "one", witness: NodeName = "gamma",
        at place: (host: String, port: Int)? = nil, timeout: Duration = .seconds(20)
    ) throws -> WitnessClient {
        WitnessClient(
            host: place?.host ?? scratch.address, port: place?.port ?? port, node: witness,
            identity: try trust.identity(name, authority: authority), memory: try scratch.memory(memory ?? name),
            timeout: timeout, group: scratch.group)
    }
}
