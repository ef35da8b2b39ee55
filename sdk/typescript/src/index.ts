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
  TooManyCalls,
  Undelivered,
  type Exit,
} from "./errors.js";
export { P2PNode, type Mail, type Notices } from "./client.js";
export { type CallOptions, type Options, type SendOptions } from "./options.js";
export { type Lifecycle } from "./sidecar.js";
export { Stream } from "./stream.js";
export { type Restart } from "./supervisor.js";
export type * from "./types.js";
