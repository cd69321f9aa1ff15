import CLinux
import LinuxSystem

/// A program of a few instructions that the kernel runs for each frame at a device's hook (TCX, Linux 6.6). It stays there
/// when its maker ends: what is attached by a link of bpf(2) would fall off, and let everything pass.
struct HookProgram: ~Copyable {
    /// `enum bpf_attach_type` (include/uapi/linux/bpf.h).
    enum Hook: Int32 {
        /// Frames that come in from the device: of a tap, those that the guest sends.
        case ingress = 46
        /// Frames that go out to it.
        case egress = 47
    }

    /// Field `mark` of `struct __sk_buff`, and what it says: this frame is one that the guest sent, on its way through here.
    private static let mark: (offset: Int16, value: Int32) = (8, 0x526d)
    /// Results (`enum tcx_action_base`): the next program decides; the frame is dropped.
    private static let next: Int32 = -1
    private static let drop: Int32 = 2
    /// BPF_F_INGRESS of `bpf_redirect`: as if the device had received it.
    private static let asReceived: Int32 = 1

    let descriptor: OwnedDescriptor

    private init(_ name: String, _ instructions: [Instruction]) throws(SystemError) {
        let words = instructions.map(\.word)
        let number = rml_program_load(words, UInt32(words.count), name)
        guard number >= 0 else { throw SystemError(operation: "load", errno: -number, subject: "the program \(name)") }
        descriptor = OwnedDescriptor(owning: number)
    }

    /// A program of that number, whoever made it.
    private init(number: UInt32) throws(SystemError) {
        let opened = rml_program_open(number)
        guard opened >= 0 else { throw SystemError(operation: "open", errno: -opened, subject: "program \(number)") }
        descriptor = OwnedDescriptor(owning: opened)
    }

    /// Before a tap: what the guest sends goes to `device`, marked; what came back from there goes on.
    static func away(to device: UInt32) throws(SystemError) -> HookProgram {
        try HookProgram(
            Left.away.rawValue,
            [
                .move(6, from: 1), .loadWord(2, from: 1, mark.offset), .jump(ifEqual: 2, mark.value, over: 6),
                .move(2, mark.value), .storeWord(2, to: 6, mark.offset),
                .move(1, Int32(device)), .move(2, 0), .call(.redirect), .exit,
                .move(2, 0), .storeWord(2, to: 6, mark.offset), .move(0, next), .exit,
            ])
    }

    /// Where what the agent writes to its device goes.
    enum Way {
        /// In from the tap, as the guest's own frames; marked for the program before the tap, where there is one.
        case out(isMarked: Bool)
        /// Out to the guest, marked.
        case toGuest
    }

    /// Behind the agent's device.
    static func back(to tap: UInt32, _ way: Way) throws(SystemError) -> HookProgram {
        let (isMarked, flags) =
            switch way {
            case .out(let isMarked): (isMarked, asReceived)
            case .toGuest: (true, 0)
            }
        let marking: [Instruction] = [.move(2, mark.value), .storeWord(2, to: 1, mark.offset)]
        return try HookProgram(
            "romulus_back",
            (isMarked ? marking : []) + [.move(1, Int32(tap)), .move(2, flags), .call(.redirect), .exit])
    }

    /// Behind a tap whose guest is carried: only what the agent wrote gets to the guest.
    static func onlyCarried() throws(SystemError) -> HookProgram {
        try HookProgram(
            Left.carry.rawValue,
            [
                .move(6, from: 1), .loadWord(2, from: 1, mark.offset), .jump(ifEqual: 2, mark.value, over: 2),
                .move(0, drop), .exit,
                .move(2, 0), .storeWord(2, to: 6, mark.offset), .move(0, next), .exit,
            ])
    }

    /// Before the agent's device: only the guest's frames go in. This host's programs may send on any device.
    static func onlyMarked() throws(SystemError) -> HookProgram {
        try HookProgram(
            "romulus_only",
            [
                .loadWord(2, from: 1, mark.offset), .move(0, next), .jump(ifEqual: 2, mark.value, over: 1),
                .move(0, drop), .exit,
            ])
    }

    /// Comes before all others there, or takes the place of `replaced` in the same moment.
    func attach(to device: UInt32, _ hook: Hook, replacing replaced: borrowing HookProgram?) throws(SystemError) {
        let before: Int32
        switch replaced {
        case .some(let program): before = program.descriptor.number
        case nil: before = -1
        }
        let result = rml_program_attach(descriptor.number, Int32(device), hook.rawValue, before)
        guard result >= 0 else {
            throw SystemError(operation: "attach a program to", errno: -result, subject: "device \(device)")
        }
    }

    func detach(from device: UInt32, _ hook: Hook) throws(SystemError) {
        let result = rml_program_detach(descriptor.number, Int32(device), hook.rawValue)
        guard result >= 0 else {
            throw SystemError(operation: "detach a program from", errno: -result, subject: "device \(device)")
        }
    }

    /// What an agent puts at a tap, by the kernel's name of it.
    enum Left: String {
        case away = "romulus_away"
        case carry = "romulus_carry"

        var hook: Hook { self == .away ? .ingress : .egress }
    }

    /// The program that an agent put at the tap, alive or not; nil where there is none.
    static func left(_ kind: Left = .away, at tap: UInt32) throws(SystemError) -> HookProgram? {
        var numbers = [UInt32](repeating: 0, count: 64)
        let count = rml_programs(Int32(tap), kind.hook.rawValue, &numbers, UInt32(numbers.count))
        guard count >= 0 else {
            throw SystemError(operation: "list the programs at", errno: -count, subject: "device \(tap)")
        }
        for number in numbers.prefix(Int(count)) {
            let program = try HookProgram(number: number)
            if program.name == kind.rawValue { return program }
        }
        return nil
    }

    /// Throws where this process may load programs and not look at those of others.
    func checkThatItCanBeFound() throws(SystemError) {
        var number: UInt32 = 0
        let result = rml_program_number(descriptor.number, &number)
        guard result >= 0 else { throw SystemError(operation: "look at", errno: -result, subject: "a program") }
        _ = try HookProgram(number: number)
    }

    private var name: String {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 16) { name in
            guard rml_program_name(descriptor.number, name.baseAddress!) >= 0 else { return "" }
            return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        }
    }
}

/// One instruction of the kernel's virtual machine (`struct bpf_insn`; Documentation/bpf/standardization/instruction-set.rst).
private struct Instruction {
    enum Helper: Int32 { case redirect = 23 }

    let word: UInt64

    private init(_ code: UInt8, target: UInt8 = 0, source: UInt8 = 0, offset: Int16 = 0, value: Int32 = 0) {
        word =
            UInt64(code) | UInt64(target | source << 4) << 8 | UInt64(UInt16(bitPattern: offset)) << 16
            | UInt64(UInt32(bitPattern: value)) << 32
    }

    static func move(_ target: UInt8, from source: UInt8) -> Instruction { .init(0xbf, target: target, source: source) }
    static func move(_ target: UInt8, _ value: Int32) -> Instruction { .init(0xb7, target: target, value: value) }
    static func loadWord(_ target: UInt8, from source: UInt8, _ offset: Int16) -> Instruction {
        .init(0x61, target: target, source: source, offset: offset)
    }
    static func storeWord(_ source: UInt8, to target: UInt8, _ offset: Int16) -> Instruction {
        .init(0x63, target: target, source: source, offset: offset)
    }
    static func jump(ifEqual target: UInt8, _ value: Int32, over offset: Int16) -> Instruction {
        .init(0x15, target: target, offset: offset, value: value)
    }
    static func call(_ helper: Helper) -> Instruction { .init(0x85, value: helper.rawValue) }
    static let exit = Instruction(0x95)
}
