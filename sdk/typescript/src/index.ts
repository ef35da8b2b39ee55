export { content } from "./decode.js";
export {
  BinaryNotFound,
  CallTimeout,
  CommandRefused,
  LineTooLong,
  NodeClosed,
  P2PError,
  SidecarError,
  SidecarExited,
  SidecarRestarted,
  SidecarUnavailable,
  Undelivered,
  type Exit,
} from "./errors.js";
export { P2PNode, type CallOptions, type Lifecycle, type Mail, type Options, type SendOptions } from "./client.js";
export { Stream } from "./stream.js";
export { type Restart } from "./supervisor.js";
export type * from "./types.js";
