export { content } from "./decode.js";
export {
  BinaryNotFound,
  BinaryUnusable,
  CallTimeout,
  CommandRefused,
  HandlerError,
  HandlerFailed,
  InvalidArgument,
  LineTooLong,
  NodeClosed,
  NotJoined,
  P2PError,
  QuorumNotReached,
  SidecarError,
  SidecarExited,
  SidecarRestarted,
  SidecarUnavailable,
  StartFailed,
  TooManyCalls,
  Undelivered,
  type BinaryReason,
  type Exit,
} from "./errors.js";
export { type FoundAgents } from "./channel.js";
export { P2PNode, type SentMessage, type NodeEvents } from "./client.js";
export { type CallOptions, type Options, type PublishOptions, type SendOptions } from "./options.js";
export { type HandledRequest, type RequestHandler } from "./handlers.js";
export { type AgentAnswer, type Answers, type AskAllOptions, type AskOptions, type AskStreamOptions } from "./requests.js";
export { register, type RegisterOptions, type Registration } from "./registration.js";
export { type Lifecycle } from "./supervised_node.js";
export { Stream } from "./stream.js";
export { type Restart } from "./supervisor.js";
export { DEFAULT_PRIORITY, ErrorCode } from "./types.js";
export type * from "./types.js";
