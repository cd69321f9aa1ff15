import Model
import Registers
import Synchronization
import Testing

/// Answers as it is told.
private final class ScriptedArbiter: Arbiter {
    let name = "scripted"
    let answers = Mutex<[Bool]>([])

    func read(_ vm: VMName) async -> RegisterReading { next() ? .value(nil) : .unknown("no answer") }
    func compareAndSet(
        _ vm: VMName, expecting expected: Register?, to new: Register, nonce: Nonce
    ) async -> RegisterAnswer { next() ? .conflict(nil) : .unknown("no answer") }
    func close() async {}

    private func next() -> Bool { answers.withLock { $0.removeFirst() } }
}

@Suite struct WatchedArbiterTests {
    /// One lost answer is no news, the second in a row is, and so is the first answer after that; changes count as readings do.
    @Test func itsLossAndItsReturnAreToldOnce() async {
        let script = ScriptedArbiter()
        let arbiter = WatchedArbiter(script)
        let news = Mutex<[Bool]>([])
        let seen = Box(news)
        arbiter.onChange { view in seen.news.withLock { $0.append(view.isUp) } }
        script.answers.withLock { $0 = [true, false, true, false, false, false, true] }
        _ = await arbiter.read(vm("a"))
        #expect(arbiter.view.answered != nil && arbiter.view.reason == nil)
        _ = await arbiter.read(vm("a"))
        #expect(arbiter.view.isUp && arbiter.view.reason == "no answer")
        _ = await arbiter.compareAndSet(vm("a"), expecting: nil, to: register(1), nonce: Nonce(1))
        for _ in 0..<3 { _ = await arbiter.read(vm("a")) }
        #expect(!arbiter.view.isUp && arbiter.view.answered != nil)
        _ = await arbiter.read(vm("b"))
        #expect(arbiter.view.isUp)
        #expect(seen.news.withLock { $0 } == [false, true])
    }
}

private final class Box: Sendable {
    let news: Mutex<[Bool]>
    init(_ news: consuming Mutex<[Bool]>) { self.news = news }
}
