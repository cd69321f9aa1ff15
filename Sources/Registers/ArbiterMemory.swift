import Dispatch
import FoundationEssentials
import Glibc
import LinuxSystem
import Model
import Synchronization

/// What this node remembers of its arbiter, on disk: which store it is enrolled at, and the highest term that it saw
/// there for each VM (I11).
///
/// The first answer enrols the store. From then on an answer counts only when it comes from that store and knows at
/// least the terms seen; what is new is on stable storage before the answer is used.
///
/// The file holds a JSON object per line: first `{"store":…}`, then `{"term":…,"vm":…}`, of a VM the last one counts. A
/// last line without an end was never used. The file is rewritten when it is opened and when it has grown long.
public final class ArbiterMemory: Sendable {
    private struct Contents: Hashable {
        var store: String?
        /// By the VM's name.
        var terms: [String: UInt64] = [:]
    }

    private struct Line: Codable {
        var store: String?
        var vm: String?
        var term: UInt64?

        var text: String {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.sortedKeys]
            // A plain value type with string keys: encoding it cannot fail.
            guard let data = try? encoder.encode(self) else { preconditionFailure("a line is encodable") }
            return String(decoding: data, as: UTF8.self) + "\n"
        }
    }

    /// Where lines are appended; nil until the file is there, and after an error, which makes it be written anew.
    private struct Log: ~Copyable {
        var file: OwnedDescriptor?
        var lines = 0
    }

    private static let linesMax = 10_000

    /// The file that holds it; removing it, while no agent runs, enrols anew.
    public let path: String
    private let name: String
    private let directory: DurableDirectory
    private let contents: Mutex<Contents>
    private let log = Mutex(Log())
    /// Writes, one after the other, off the cooperative pool.
    private let queue = DispatchQueue(label: "arbiter-memory")

    /// `directory` exists; the file `name` in it is written with the first answer.
    public init(directory: String, name: String = "arbiter.jsonl") throws(ArbiterMemoryError) {
        self.name = name
        path = "\(directory)/\(name)"
        contents = Mutex(try Self.load(path))
        do throws(SystemError) {
            self.directory = try DurableDirectory(directory, exclusively: false)
        } catch {
            throw .system(error)
        }
    }

    private static func load(_ path: String) throws(ArbiterMemoryError) -> Contents {
        let bytes: [UInt8]
        do throws(SystemError) {
            bytes = try Files.contents(of: path)
        } catch {
            if error.errno == ENOENT { return Contents() }
            throw .system(error)
        }
        var contents = Contents()
        for line in bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).dropLast() {
            guard let line = try? JSONDecoder().decode(Line.self, from: Data(line)) else { throw .damaged(path: path) }
            switch (line.store, line.vm, line.term) {
            case (let store?, nil, nil) where contents.store == nil: contents.store = store
            case (nil, let vm?, let term?) where contents.store != nil: contents.terms[vm] = term
            default: throw .damaged(path: path)
            }
        }
        // The first line was written together with the file.
        guard contents.store != nil else { throw .damaged(path: path) }
        return contents
    }

    /// The highest term that this node saw, 0 when none.
    public func seen(_ vm: VMName) -> Term { Term(contents.withLock { $0.terms[vm.description] ?? 0 }) }

    /// For terms that became known on another way than from the arbiter itself: from the peer, say. Only such that this
    /// arbiter granted; before the first answer of an arbiter it does nothing.
    public func note(_ term: Term, of vm: VMName) async throws(ArbiterMemoryError) {
        guard let store = contents.withLock({ $0.store }) else { return }
        try await accept(store: store, vm: vm, term: term, since: Term(0))
    }

    /// Takes up that `store` showed `vm` at `term` (0: not at all), or throws why that must not be believed. `seen` is the
    /// highest term that was known when the store was asked: answers to several questions may come in any order.
    package func accept(
        store: String, vm: VMName, term: Term, since seen: Term
    ) async throws(ArbiterMemoryError) {
        let known = contents.withLock { $0 }
        if let enrolled = known.store, enrolled != store {
            throw .otherStore(enrolled: enrolled, found: store, path: path)
        }
        guard term >= seen else { throw .forgot(vm: vm, seen: seen, found: term, path: path) }
        if known.store == store, term.number <= known.terms[vm.description] ?? 0 { return }
        let outcome: Result<Void, ArbiterMemoryError> = await withCheckedContinuation { continuation in
            queue.async { continuation.resume(returning: self.write(store: store, vm: vm, term: term)) }
        }
        try outcome.get()
    }

    /// On `queue`. What others see in memory follows what is on disk.
    private func write(store: String, vm: VMName, term: Term) -> Result<Void, ArbiterMemoryError> {
        var next = contents.withLock { $0 }
        if let enrolled = next.store, enrolled != store {
            return .failure(.otherStore(enrolled: enrolled, found: store, path: path))
        }
        let isNew = next.store == nil
        next.store = store
        if term > Term(next.terms[vm.description] ?? 0) { next.terms[vm.description] = term.number }
        do throws(SystemError) {
            try log.withLock { (log) throws(SystemError) in
                do throws(SystemError) {
                    if isNew || log.file == nil || log.lines >= Self.linesMax {
                        log.file = try directory.replace(name, with: Self.image(of: next))
                        log.lines = 0
                    } else {
                        try log.file?.append(Array(Line(vm: vm.description, term: term.number).text.utf8))
                        try log.file?.syncData()
                        log.lines += 1
                    }
                } catch {
                    log.file = nil
                    throw error
                }
            }
        } catch {
            return .failure(.system(error))
        }
        contents.withLock { $0 = next }
        return .success(())
    }

    private static func image(of contents: Contents) -> [UInt8] {
        var text = Line(store: contents.store).text
        for (vm, term) in contents.terms.sorted(by: { $0.key < $1.key }) { text += Line(vm: vm, term: term).text }
        return Array(text.utf8)
    }
}

/// Why what an arbiter says is not used.
public enum ArbiterMemoryError: Error, Hashable, Sendable, CustomStringConvertible {
    /// Another store answers than the one that this node is enrolled at.
    case otherStore(enrolled: String, found: String, path: String)
    /// The right store, with an older state than this node saw: it was restored from a copy, or its disk lost writes.
    case forgot(vm: VMName, seen: Term, found: Term, path: String)
    case damaged(path: String)
    case system(SystemError)

    public var description: String {
        switch self {
        case .otherStore(let enrolled, let found, let path):
            "it keeps \(found) and this node is enrolled at \(enrolled): its disk was lost or it was replaced, so it cannot "
                + "know who may run what; bring the old one back, or enrol both hosts anew by stopping their agents, making "
                + "sure that each VM runs once, and removing \(path) on both"
        case .forgot(let vm, let seen, let found, let path):
            "it knows \(found.number == 0 ? "no term" : "term \(found)") of \(vm) and this node saw term \(seen) there: it "
                + "lost changes, so it cannot know who may run it; bring its newest state back, or enrol both hosts anew by "
                + "stopping their agents, making sure that each VM runs once, and removing \(path) on both"
        case .damaged(let path):
            "\(path) is damaged, so this node does not know any more which arbiter it trusted: make sure that each VM runs "
                + "once, remove the file and start the agent again"
        case .system(let error):
            "what this node knows of its arbiter cannot be kept: \(error)"
        }
    }
}
