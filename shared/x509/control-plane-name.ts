/** The name that every control plane of a fleet answers to in TLS, whatever address it was reached by. */
export const CONTROL_PLANE_NAME = 'control-plane.holdfast.internal'
