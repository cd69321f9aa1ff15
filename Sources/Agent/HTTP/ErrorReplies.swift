import Hummingbird
import RomulusAPI

/// Turns every error into the one form that clients know: `{"error": {"code": …, "message": …}}`.
struct ErrorReplies: RouterMiddleware {
    typealias Context = BasicRequestContext

    func handle(
        _ request: Request, context: BasicRequestContext,
        next: (Request, BasicRequestContext) async throws -> Response
    ) async throws -> Response {
        do {
            return try await next(request, context)
        } catch let error as APIError {
            return try Self.reply(error, status: HTTPResponse.Status(code: error.code.httpStatus))
        } catch let error as HTTPError where error.status == .notFound {
            let message = "there is nothing at \(request.method) \(request.uri.path) in this version of the API"
            return try Self.reply(APIError(.badRequest, message), status: .notFound)
        } catch let error as HTTPError {
            return try Self.reply(APIError(.badRequest, error.body ?? "\(error.status)"), status: error.status)
        } catch is CancellationError {
            return try Self.reply(
                APIError(.agentUnreachable, "the agent is shutting down"), status: .serviceUnavailable)
        } catch {
            context.logger.error("request failed", metadata: ["path": "\(request.uri.path)", "error": "\(error)"])
            return try Self.reply(APIError(.failed, "\(error)"), status: .internalServerError)
        }
    }

    private static func reply(_ error: APIError, status: HTTPResponse.Status) throws -> Response {
        Response(
            status: status, headers: [.contentType: "application/json"],
            body: ResponseBody(byteBuffer: ByteBuffer(bytes: try JSONCoding.encode(ErrorReply(error)))))
    }
}
