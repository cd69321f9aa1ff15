import Foundation
import LinuxSystem
import Wire

/// A small JSON value in a file that is written anew in place, with one disk flush: two places, of which the older is
/// written, so a write that was cut short leaves the one before.
///
///     place: {"checksum":"crc32c in hex","number":N,"value":…} and blanks, to half of the file
///
/// The checksum is that of the place's bytes after it and its comma, up to the closing brace; the highest number counts. So
/// `jq -s 'max_by(.number).value'` reads the file. A place that is all blanks was never written.
package final class StateFile<Value: Codable & Sendable> {
    private struct Place: Codable {
        var number: UInt64
        var value: Value
    }

    private let name: String
    /// Nil until the file is there, and after an error, which makes it be written anew as a whole: what an error left in the
    /// kernel's memory and on the disk is not known.
    private var file: OwnedDescriptor?
    private var number: UInt64 = 0
    private var placeSize = StateFile.placeSizeMin

    /// Two places do not share a block of any usual disk.
    private static var placeSizeMin: Int { 8192 }
    private static var head: [UInt8] { Array(#"{"checksum":""#.utf8) }
    /// The checksum's eight digits, its quote and the comma.
    private static var bodyOffset: Int { head.count + 10 }

    /// For the file `name`, which holds `number` and nothing newer, or is not there yet (0).
    package init(_ name: String, number: UInt64 = 0) {
        self.name = name
        self.number = number
    }

    /// What is in the file's bytes, and whether the last write of it was cut short; nil when no place is whole.
    package static func read(_ bytes: [UInt8]) -> (value: Value, number: UInt64, isTorn: Bool)? {
        guard bytes.count >= 2 * placeSizeMin, bytes.count % 2 == 0 else { return nil }
        let size = bytes.count / 2
        let parts = [bytes[..<size], bytes[size...]]
        let places = parts.compactMap(place(in:))
        guard let newest = places.max(by: { $0.number < $1.number }) else { return nil }
        let written = parts.filter { !$0.allSatisfy(isBlank) }.count
        return (newest.value, newest.number, written > places.count)
    }

    private static func isBlank(_ byte: UInt8) -> Bool { byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\n") }

    private static func place(in bytes: ArraySlice<UInt8>) -> Place? {
        guard let end = bytes.lastIndex(where: { !isBlank($0) }), bytes.starts(with: head) else { return nil }
        let text = bytes[...end]
        guard text.count > bodyOffset,
            let checksum = UInt32(String(decoding: text.dropFirst(head.count).prefix(8), as: UTF8.self), radix: 16),
            text.dropFirst(bodyOffset).withUnsafeBytes({ crc32c($0) }) == checksum
        else { return nil }
        return try? JSONDecoder().decode(Place.self, from: Data(text))
    }

    /// Returns when `value` is on stable storage. After an error either value may be what is found later.
    package func write(_ value: Value, in directory: borrowing DurableDirectory) throws(SystemError) {
        number += 1
        let place = Self.bytes(Place(number: number, value: value))
        if let file = file.take(), place.count <= placeSize {
            let offset = UInt64(number % 2 == 0 ? 0 : placeSize)
            try Self.padded(place, to: placeSize).withUnsafeBufferPointer { (bytes) throws(SystemError) in
                try file.writeAll(UnsafeRawBufferPointer(bytes), at: offset)
            }
            try file.syncData()
            self.file = consume file
            return
        }
        while placeSize < place.count { placeSize *= 2 }
        let first = Self.padded(place, to: placeSize)
        let other = Self.padded([], to: placeSize)
        file = try directory.replace(name, with: number % 2 == 0 ? first + other : other + first)
    }

    private static func bytes(_ place: Place) -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        // Plain value types with string keys: encoding them cannot fail.
        guard let data = try? encoder.encode(place) else { preconditionFailure("a state is not encodable") }
        let body = Array(data.dropFirst())
        let digits = String(body.withUnsafeBytes { crc32c($0) }, radix: 16)
        let checksum = String(repeating: "0", count: 8 - digits.count) + digits
        return head + Array(checksum.utf8) + Array(#"","#.utf8) + body
    }

    private static func padded(_ bytes: [UInt8], to size: Int) -> [UInt8] {
        bytes + [UInt8](repeating: UInt8(ascii: " "), count: size - bytes.count - 1) + [UInt8(ascii: "\n")]
    }
}
