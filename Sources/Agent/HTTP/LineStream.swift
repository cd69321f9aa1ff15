import Hummingbird
import RomulusAPI
import ServiceLifecycle

/// Replies that go on: newline-delimited JSON, for as long as the client wants it.
enum LineStream {
    /// Calls `step` with the state that its last call gave, writes what it gives, and so on; no state is the end. `step` is cancelled when
    /// the client hangs up or the agent shuts down; an `APIError` becomes the last line of the stream.
    static func response<State: Sendable>(
        to request: Request, from start: State,
        _ step: @escaping @Sendable (State) async throws -> (ByteBuffer, State?)
    ) -> Response {
        let body = ResponseBody { writer in
            try await request.body.consumeWithCancellationOnInboundClose { _ in
                var state: State? = start
                while let now = state {
                    let chunk: ByteBuffer
                    do {
                        (chunk, state) = try await cancelWhenGracefulShutdown {
                            let next = try await step(now)
                            // A step may answer a cancellation with what it has.
                            try Task.checkCancellation()
                            return next
                        }
                    } catch let error as APIError {
                        try await writer.write(line(ErrorReply(error)))
                        return
                    } catch is CancellationError {
                        let error = APIError(.agentUnreachable, "the agent is shutting down")
                        try await writer.write(line(ErrorReply(error)))
                        return
                    }
                    try await writer.write(chunk)
                }
            }
            try await writer.finish(nil)
        }
        return Response(status: .ok, headers: [.contentType: "application/x-ndjson"], body: body)
    }

    static func line(_ value: some Encodable) throws -> ByteBuffer {
        var buffer = ByteBuffer(bytes: try JSONCoding.encode(value))
        buffer.writeString("\n")
        return buffer
    }
}
