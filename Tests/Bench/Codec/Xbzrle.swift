import Foundation
import TestBed

/// QEMU's own page delta, as a peer: `migration/xbzrle.c` from the source package of the QEMU that is installed, compiled
/// when the bench runs. It is under another licence than this repository, so that nothing of it is kept here.
struct Xbzrle {
    typealias Encode =
        @convention(c) (
            UnsafeMutableRawPointer, UnsafeMutableRawPointer, Int32, UnsafeMutableRawPointer, Int32
        ) -> Int32
    typealias Decode = @convention(c) (UnsafeMutableRawPointer, Int32, UnsafeMutableRawPointer, Int32) -> Int32

    /// Old page, new page, length, room and its length: the bytes written, 0 for an unchanged page, -1 for no room.
    let encode: Encode
    let decode: Decode
    /// Debian's version of the source.
    let version: String

    /// Fetches and compiles it, or finds it in the user's cache.
    static func load() throws -> Xbzrle {
        let version = try Child.run(["dpkg-query", "-W", "-f", "${source:Version}", "qemu-system-x86"])
        let name = version.map { $0.isLetter || $0.isNumber || $0 == "." ? $0 : "-" }
        let directory = "\(GuestImage.defaultCache)/xbzrle-\(String(name))"
        let library = "\(directory)/xbzrle.so"
        if !FileManager.default.fileExists(atPath: library) { try build(version, in: directory) }
        guard let handle = dlopen(library, RTLD_NOW), let encode = dlsym(handle, "xbzrle_encode_buffer"),
            let decode = dlsym(handle, "xbzrle_decode_buffer")
        else { throw BedError("\(library) cannot be loaded; remove \(directory) and run the bench again.") }
        return Xbzrle(
            encode: unsafeBitCast(encode, to: Encode.self), decode: unsafeBitCast(decode, to: Decode.self),
            version: version)
    }

    private static func build(_ version: String, in directory: String) throws {
        let work = try TemporaryDirectory("xbzrle")
        defer { work.remove() }
        for folder in ["lists/partial", "cache/archives/partial", "shim/qemu"] {
            try FileManager.default.createDirectory(
                atPath: "\(work.path)/\(folder)", withIntermediateDirectories: true)
        }
        // This machine's own lists of packages stay as they are.
        let key = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
        try write(
            [
                "deb-src \(key) http://deb.debian.org/debian bookworm main",
                "deb-src \(key) http://deb.debian.org/debian-security bookworm-security main",
            ], to: "\(work.path)/sources.list")
        let apt = [
            "apt-get", "-qq", "-o", "Dir::Etc::SourceList=\(work.path)/sources.list", "-o",
            "Dir::Etc::SourceParts=/dev/null", "-o", "Dir::State::Lists=\(work.path)/lists", "-o",
            "Dir::Cache=\(work.path)/cache", "-o", "APT::Sandbox::User=root",
        ]
        try Child.run(apt + ["update"])
        try Child.run(
            ["sh", "-c", "cd \"$0\" && exec \"$@\"", work.path] + apt
                + ["source", "--download-only", "qemu=\(version)"],
            limit: .seconds(300))
        try Child.run([
            "sh", "-c",
            "cd \"$0\" && tar -xJf *.orig.tar.xz --wildcards --strip-components=1 '*/migration/xbzrle.[ch]'",
            work.path,
        ])
        try write(
            [
                "#include <assert.h>", "#include <stdbool.h>", "#include <stdint.h>", "#include <string.h>",
                "#define g_assert assert",
            ], to: "\(work.path)/shim/qemu/osdep.h")
        // A length is LEB128 in one byte or two.
        try write(
            [
                "static inline int uleb128_encode_small(uint8_t *out, uint32_t n) {",
                "    out[0] = n < 128 ? n : n % 128 + 128;",
                "    if (n >= 128) out[1] = n / 128;",
                "    return n < 128 ? 1 : 2;",
                "}",
                "static inline int uleb128_decode_small(const uint8_t *in, uint32_t *n) {",
                "    *n = in[0] < 128 ? in[0] : in[0] % 128 + in[1] * 128u;",
                "    return in[0] < 128 ? 1 : in[1] < 128 ? 2 : -1;",
                "}",
            ], to: "\(work.path)/shim/qemu/cutils.h")
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        // As Debian compiles QEMU.
        try Child.run([
            "cc", "-O2", "-fno-strict-aliasing", "-fPIC", "-shared", "-I\(work.path)/shim", "-I\(work.path)/migration",
            "-o", "\(directory)/xbzrle.so", "\(work.path)/migration/xbzrle.c",
        ])
    }

    private static func write(_ lines: [String], to path: String) throws {
        try (lines.joined(separator: "\n") + "\n").write(toFile: path, atomically: true, encoding: .utf8)
    }
}
