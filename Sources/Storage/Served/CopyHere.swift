import LinuxSystem
import Synchronization

/// The copy of a served disk that is on this host: a raw file or a block device, and the threads that work on it.
///
/// An operation may never return: then the whole copy is left behind, with its file and its threads, until `isIdle` says that all
/// of them did.
final class CopyHere: Sendable {
    private struct Work {
        var body: @Sendable (RawImage) throws(StorageError) -> Void
        var done: @Sendable (StorageError?) -> Void
    }

    private struct State {
        var queue: [Work] = []
        var underWay = 0
        var isEnding = false
    }

    /// Threads, and so operations at the device at once.
    private static let threadsMax = 8

    let image: RawImage
    private let state = Monitor(State())

    /// Opens it, without its locks.
    init(path: String) throws(StorageError) {
        image = try RawImage(path: path, isLocked: false)
        for number in 0..<Self.threadsMax {
            do throws(SystemError) {
                _ = try NamedThread.start("disk-here-\(number)") { [self] in work() }
            } catch {
                end()
                throw .cannotStart(what: "a thread of \(path)", reason: "\(error)")
            }
        }
    }

    /// `done` is called on a thread of this copy.
    func perform(
        _ body: @escaping @Sendable (RawImage) throws(StorageError) -> Void,
        done: @escaping @Sendable (StorageError?) -> Void
    ) {
        state.changeForOne { $0.queue.append(Work(body: body, done: done)) }
    }

    /// Nothing that was asked of it is under way any more.
    var isIdle: Bool { state.look { $0.underWay == 0 } }

    /// Takes no further work; what waits is not begun. Its file is closed when nobody has it any more.
    func end() {
        state.change { state in
            state.isEnding = true
            state.queue = []
        }
        // Even that may wait for a disk that does not answer.
        _ = try? NamedThread.start("disk-unlock") { [image] in image.unlock() }
    }

    private func work() {
        while let work = next() {
            var failure: StorageError?
            do throws(StorageError) {
                try work.body(image)
            } catch {
                failure = error
            }
            state.look { $0.underWay -= 1 }
            work.done(failure)
        }
    }

    private func next() -> Work? {
        state.take { state -> Work?? in
            if state.isEnding { return .some(nil) }
            guard !state.queue.isEmpty else { return nil }
            state.underWay += 1
            return state.queue.removeFirst()
        }
    }
}
