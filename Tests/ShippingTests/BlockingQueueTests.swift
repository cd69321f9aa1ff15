import LinuxSystem
import Shipping
import Synchronization
import Testing

@Suite struct BlockingQueueTests {
    @Test func everythingComesOutInOrderThroughAFullQueue() throws {
        let queue = BlockingQueue<Int>(capacity: 2)
        let thread = try NamedThread.start("push") {
            for number in 0..<500 { queue.push(number) }
            queue.close()
        }
        var seen: [Int] = []
        while let number = queue.pop() { seen.append(number) }
        thread.join()
        #expect(seen == Array(0..<500))
    }

    @Test func aClosedQueueGivesWhatItHasAndTakesNothing() {
        let queue = BlockingQueue<Int>(capacity: 4)
        #expect(queue.push(1))
        queue.close()
        #expect(queue.isClosed)
        #expect(!queue.push(2))
        #expect(queue.pop() == 1)
        #expect(queue.pop() == nil)
        #expect(queue.pop(milliseconds: 1000) == nil)
    }

    @Test func closingWakesWhoWaitsForRoom() throws {
        let queue = BlockingQueue<Int>(capacity: 1)
        queue.push(1)
        let taken = Atomic(true)
        let thread = try NamedThread.start("full") { taken.store(queue.push(2), ordering: .relaxed) }
        queue.close()
        thread.join()
        #expect(taken.load(ordering: .relaxed) == false)
    }

    @Test func nothingComesInTime() {
        #expect(BlockingQueue<Int>(capacity: 1).pop(milliseconds: 1) == nil)
    }
}
