import Agent
import Foundation
import LinuxSystem
import TestBed
import Testing

/// Values that survive a restart, in both forms of file.
@Suite struct DurableFileTests {
    struct Value: Codable, Equatable {
        var word = "none"
    }
    typealias File = DurableFile<Value>

    private static func with(_ body: (String, borrowing DurableDirectory) throws -> Void) throws {
        let directory = try TemporaryDirectory("durable")
        defer { directory.remove() }
        try body(directory.path, try DurableDirectory(directory.path, exclusively: false))
    }

    private static func open(_ form: File.Form, in directory: borrowing DurableDirectory) throws -> File {
        try File("value.json", in: directory, form, initial: Value()) { _ in "cannot be read; remove it" }
    }

    @Test(arguments: [File.Form.replaced, .inTwoPlaces]) func whatWasChangedIsFoundAgain(form: File.Form) throws {
        try Self.with { _, directory in
            for word in ["one", "two", "three"] {
                let file = try Self.open(form, in: directory)
                try file.change(in: directory) { $0.word += " \(word)" }
                #expect(file.value == (try Self.open(form, in: directory).value))
                #expect(!file.isTorn)
            }
            #expect(try Self.open(form, in: directory).value == Value(word: "none one two three"))
        }
    }

    @Test func aReplacedFileIsThePlainValue() throws {
        try Self.with { path, directory in
            try Self.open(.replaced, in: directory).change(in: directory) { $0.word = "plain" }
            #expect(try String(contentsOfFile: "\(path)/value.json", encoding: .utf8) == #"{"word":"plain"}"#)
        }
    }

    /// Agents wrote the plain value before there were two places.
    @Test func twoPlacesAreReadFromAPlainValueToo() throws {
        try Self.with { path, directory in
            try #"{"word":"older"}"#.write(toFile: "\(path)/value.json", atomically: true, encoding: .utf8)
            let file = try Self.open(.inTwoPlaces, in: directory)
            #expect(file.value == Value(word: "older") && !file.isTorn)
            try file.change(in: directory) { $0.word = "newer" }
            #expect(try Self.open(.inTwoPlaces, in: directory).value == Value(word: "newer"))
        }
    }

    @Test(arguments: [File.Form.replaced, .inTwoPlaces]) func aChangeThatFailsIsNone(form: File.Form) throws {
        try Self.with { path, directory in
            let file = try Self.open(form, in: directory)
            try FileManager.default.removeItem(atPath: path)
            #expect(throws: SystemError.self) { try file.change(in: directory) { $0.word = "lost" } }
            #expect(file.value == Value())
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
            try file.change(in: try DurableDirectory(path, exclusively: false)) { $0.word = "kept" }
            #expect(file.value == Value(word: "kept"))
        }
    }

    @Test(arguments: [File.Form.replaced, .inTwoPlaces]) func aDamagedFileIsNamed(form: File.Form) throws {
        try Self.with { path, directory in
            try "{".write(toFile: "\(path)/value.json", atomically: true, encoding: .utf8)
            let error = #expect(throws: ConfigurationError.self) { try Self.open(form, in: directory) }
            #expect(error?.description == "\(path)/value.json: cannot be read; remove it")
        }
    }
}
