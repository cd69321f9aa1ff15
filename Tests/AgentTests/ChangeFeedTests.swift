import Agent
import Foundation
import LinuxSystem
import Synchronization
import Testing

/// Waiting for changes. What is waited for here comes at once; the deadlines are only there to end a test that fails.
@Suite(.timeLimit(.minutes(1))) struct ChangeFeedTests {
    private let feed = ChangeFeed()
    private var soon: ContinuousClock.Instant { .now + .seconds(30) }

    @Test func aWaitEndsWithTheChangeThatMakesItTrue() async {
        let count = Mutex(0)
        async let isOver = feed.wait(until: soon) { count.withLock { $0 } == 3 }
        for _ in 1...3 {
            count.withLock { $0 += 1 }
            feed.publish()
            await Task.yield()
        }
        #expect(await isOver)
        #expect(feed.version == 3)
    }

    @Test func whatIsTrueAlreadyIsNotWaitedFor() async {
        #expect(await feed.wait(until: .now) { true })
        #expect(feed.block(until: .now) { true })
    }

    /// A change between the look and the wait is none that is missed.
    @Test func aChangeBeforeTheWaitCounts() async {
        let seen = feed.version
        feed.publish()
        await feed.next(after: seen, until: soon)
        #expect(feed.version == seen + 1)
    }

    @Test func aWaitEndsAtItsDeadline() async {
        #expect(await feed.wait(until: .now + .milliseconds(20)) { false } == false)
        #expect(feed.block(until: .now + .milliseconds(20)) { false } == false)
    }

    @Test func aWaitEndsWithItsTask() async {
        let task = Task { [feed, soon] in await feed.wait(until: soon) { false } }
        task.cancel()
        #expect(await task.value == false)
    }

    @Test func everyWaiterIsWoken() async {
        let flag = Flag()
        let waiters = (1...8).map { _ in
            Task { [feed, soon] in await feed.wait(until: soon) { flag.isSet } }
        }
        flag.set()
        feed.publish()
        for waiter in waiters { #expect(await waiter.value) }
    }

    @Test func aThreadIsWokenToo() async throws {
        let flag = Flag()
        let (found, tell) = AsyncStream<Bool>.makeStream()
        _ = try NamedThread.start("waits") { [feed, soon] in
            tell.yield(feed.block(until: soon) { flag.isSet })
        }
        flag.set()
        feed.publish()
        for await found in found {
            #expect(found)
            break
        }
    }
}

private final class Flag: Sendable {
    private let value = Atomic(false)
    var isSet: Bool { value.load(ordering: .acquiring) }
    func set() { value.store(true, ordering: .releasing) }
}
