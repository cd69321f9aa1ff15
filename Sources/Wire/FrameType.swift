/// What a frame is. The numbers are fixed for ever; 0 is invalid, so that zeroed memory means nothing.
public enum FrameType: UInt8, Sendable, CaseIterable, CustomStringConvertible {
    case hello = 1
    case offer = 2
    case accept = 3
    case refuse = 4
    case pages = 5
    case deviceState = 6
    case output = 7
    case diskWrite = 8
    case diskZero = 9
    case checkpointEnd = 10
    case ack = 11
    case released = 12
    case heartbeat = 13
    case takeOver = 14
    case goodbye = 15
    case diskRead = 16
    case diskReadReply = 17
    case diskDigests = 18
    case diskDigestsReply = 19
    case synced = 20
    case register = 21
    case pageDigests = 22
    case pageDigestsReply = 23
    case wish = 24
    case tuning = 25
    case join = 26
    case turn = 27
    case verify = 28
    case verifyReply = 29
    // At levels whose output is not held.
    case diskTaken = 30
    case promiseAsked = 31
    case promise = 32
    // The dial, turned within a session.
    case attach = 33
    case attached = 34
    case detach = 35
    case through = 38
    // A disk that is served, at level component.
    case diskFlush = 44
    case diskNote = 48
    case diskNoted = 49
    // At level `component`.
    case carry = 45
    case carryNews = 46
    case carried = 47
    // Instead of a session.
    case check = 36
    case checked = 37
    // Between a node and its witness; never in a session.
    case registerRequest = 40
    case registerReply = 41

    /// The longest body of this type, in bytes. A header that announces more is refused before its body is read.
    public var bodyMax: Int {
        switch self {
        case .hello, .accept, .refuse, .goodbye, .register, .wish, .tuning, .attached, .detach: 64 << 10
        case .checked: 256 << 10
        case .offer, .check, .attach: 1 << 20
        case .pages, .deviceState, .output, .diskWrite, .diskReadReply, .diskDigestsReply, .pageDigestsReply,
            .carried:
            4 << 20
        case .diskZero: DiskZero.size
        case .checkpointEnd: CheckpointEnd.sizeMax
        case .ack: Ack.size
        case .released: Released.size
        case .heartbeat: Heartbeat.size
        case .join: Join.size
        case .turn: 0
        case .takeOver: TakeOver.size
        case .diskRead: DiskRead.size
        case .diskDigests: DiskDigests.size
        case .pageDigests: PageDigests.size
        case .synced: Synced.size
        case .verify: VerifyQuestion.sizeMax
        case .verifyReply: VerifyReply.sizeMax
        case .diskTaken: DiskTaken.size
        case .promiseAsked, .promise: PromiseAsked.size
        case .through: Through.size
        case .diskFlush: DiskFlush.size
        case .diskNote, .diskNoted: DiskNote.size
        case .carry: CarryOrder.size
        case .carryNews: CarryNews.size
        case .registerRequest, .registerReply: 16 << 10
        }
    }

    public var description: String {
        switch self {
        case .hello: "hello"
        case .offer: "offer"
        case .accept: "accept"
        case .refuse: "refuse"
        case .pages: "pages"
        case .deviceState: "deviceState"
        case .output: "output"
        case .diskWrite: "diskWrite"
        case .diskZero: "diskZero"
        case .checkpointEnd: "checkpointEnd"
        case .ack: "ack"
        case .released: "released"
        case .heartbeat: "heartbeat"
        case .takeOver: "takeOver"
        case .goodbye: "goodbye"
        case .diskRead: "diskRead"
        case .diskReadReply: "diskReadReply"
        case .diskDigests: "diskDigests"
        case .diskDigestsReply: "diskDigestsReply"
        case .synced: "synced"
        case .register: "register"
        case .pageDigests: "pageDigests"
        case .pageDigestsReply: "pageDigestsReply"
        case .wish: "wish"
        case .tuning: "tuning"
        case .join: "join"
        case .turn: "turn"
        case .verify: "verify"
        case .verifyReply: "verifyReply"
        case .diskTaken: "diskTaken"
        case .promiseAsked: "promiseAsked"
        case .promise: "promise"
        case .attach: "attach"
        case .attached: "attached"
        case .detach: "detach"
        case .through: "through"
        case .diskFlush: "diskFlush"
        case .diskNote: "diskNote"
        case .diskNoted: "diskNoted"
        case .carry: "carry"
        case .carryNews: "carryNews"
        case .carried: "carried"
        case .check: "check"
        case .checked: "checked"
        case .registerRequest: "registerRequest"
        case .registerReply: "registerReply"
        }
    }
}
