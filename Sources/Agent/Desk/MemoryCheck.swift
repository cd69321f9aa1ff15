import Memory
import Model
import RomulusAPI
import Synchronization

/// Comparing a replica with its guest.
struct MemoryCheck: Sendable {
    let node: NodeName
    let roster: Roster
    let chronicle: Chronicle

    func verify(
        _ request: VerifyRequest, _ progress: @escaping @Sendable (Verification) -> Void
    ) async throws(APIError) -> Verification {
        let vm = request.vm
        let record = try roster.record(of: vm)
        guard case .primary(let session) = record.part else {
            let way =
                record.role == .standby
                ? "verify it at \(record.peerName), where the guest runs" : "protect it first"
            throw APIError(.refused, "\(node) does not protect \(vm) (\(record.state.rawValue)): \(way)")
        }
        let peer = record.peer ?? session.standby
        let blocks = session.guest?.blocks.map(\.name) ?? []
        let calledOff = CalledOff()
        let outcome: Result<MemoryVerdict, APIError> = await withTaskCancellationHandler {
            do throws(APIError) {
                return .success(
                    try await offPool { () throws(APIError) in
                        do throws(SessionError) {
                            return try session.verifyMemory { verdict in
                                progress(Verification(vm, peer, verdict, blocks, isOver: false))
                                return !calledOff.isSet
                            }
                        } catch {
                            throw APIError(error.code == .refused ? .refused : .failed, error.message)
                        }
                    })
            } catch {
                return .failure(error)
            }
        } onCancel: {
            calledOff.set()
        }
        let result = Verification(vm, peer, try outcome.get(), blocks, isOver: true)
        record.metrics.verification.record(
            equal: result.equal, differing: result.differing, hot: result.hot, discarded: result.discarded,
            seconds: result.seconds)
        chronicle.note(
            vm, .verified, "the replica of \(vm) at \(peer) was verified: \(result.sentence)\(result.examples)")
        return result
    }
}

private final class CalledOff: Sendable {
    private let flag = Atomic<Bool>(false)
    var isSet: Bool { flag.load(ordering: .relaxed) }
    func set() { flag.store(true, ordering: .relaxed) }
}

extension Verification {
    fileprivate init(_ vm: VMName, _ peer: NodeName, _ verdict: MemoryVerdict, _ blocks: [String], isOver: Bool) {
        self.init(
            vm: vm, peer: peer, isOver: isOver, pages: verdict.pages, compared: verdict.compared, equal: verdict.equal,
            differing: verdict.differing, mended: verdict.mended, discarded: verdict.discarded, hot: verdict.hot,
            leftOut: verdict.leftOut, epochs: verdict.epochs,
            firstEpoch: verdict.epochs == 0 ? nil : verdict.firstEpoch.number,
            lastEpoch: verdict.epochs == 0 ? nil : verdict.lastEpoch.number, seconds: Double(verdict.duration) / 1e9,
            differences: verdict.differences.prefix(Self.differencesMax).map { page in
                let index = Int(page.block)
                return Difference(block: index < blocks.count ? blocks[index] : "block \(index)", page: page.number)
            })
    }

    /// Where the first pages that differ are.
    fileprivate var examples: String {
        guard !differences.isEmpty else { return "" }
        return ": " + differences.prefix(5).map { "page \($0.page) of \($0.block)" }.joined(separator: ", ")
            + (differing > 5 ? ", …" : "")
    }
}
