import Model
import Testing

@Suite struct ByteSinkTests {
    @Test func numbersAreLittleEndianAndInOrder() {
        var sink = ByteSink(capacity: 0)
        sink.append(UInt8(1))
        sink.append(UInt16(0x0302))
        sink.append(UInt32(0x0706_0504))
        sink.append(UInt64(0x0f0e_0d0c_0b0a_0908))
        sink.append(zeros: 2)
        #expect(Array(sink.bytes) == (1...15).map { UInt8($0) } + [0, 0])
        sink.overwrite(at: 1, with: UInt16(0xbbaa))
        #expect(Array(sink.bytes.prefix(4)) == [1, 0xaa, 0xbb, 4])
        sink.truncate(to: 2)
        #expect(Array(sink.bytes) == [1, 0xaa])
        sink.mutableBytes[1] = 7
        #expect(Array(sink.bytes) == [1, 7])
    }

    @Test func itGrowsAndKeepsItsMemory() {
        var sink = ByteSink(capacity: 64)
        for number in 0..<UInt64(10_000) { sink.append(number) }
        let count = sink.count
        #expect(count == 80_000)
        #expect(
            (0..<10_000).allSatisfy { sink.bytes.loadUnaligned(fromByteOffset: $0 * 8, as: UInt64.self) == UInt64($0) })
        let capacity = sink.capacity
        let address = sink.bytes.baseAddress
        sink.reset()
        sink.reserve(capacity)
        sink.commit(capacity)
        let (after, grown) = (sink.bytes.baseAddress, sink.capacity)
        #expect(after == address && grown == capacity)
    }

    @Test func reservedBytesBecomeContentsWhenCommitted() {
        var sink = ByteSink()
        sink.append(UInt8(1))
        sink.reserve(100).storeBytes(of: 2, as: UInt8.self)
        var bytes = Array(sink.bytes)
        #expect(bytes == [1])
        sink.commit(1)
        bytes = Array(sink.bytes)
        #expect(bytes == [1, 2])
    }

    @Test func outgrowingItsCapTraps() async {
        await #expect(processExitsWith: .failure) {
            var sink = ByteSink(capacity: 64, capacityMax: 128)
            sink.append(zeros: 129)
        }
        await #expect(processExitsWith: .failure) {
            var sink = ByteSink(capacity: 64)
            sink.commit(65)
        }
        await #expect(processExitsWith: .failure) {
            var sink = ByteSink(capacity: 64)
            sink.append(UInt8(1))
            sink.overwrite(at: 0, with: UInt16(1))
        }
    }
}
