// Where Sockeye's telling of a story differs from Node's, each with the reason. A difference that is
// not listed fails, and so does one that is listed and no longer there.
//
// `story`, `modes` (all, if absent) and `section` say where, `node` and `sockeye` which lines only the
// one or the other has.

const REFUSED = '[{"code":"refused","message":"not today","status":"error"}]';

export default [
  {
    story: "gone while a middleware thinks",
    section: "the server of anna",
    node: ["/slow middleware-end of <nameless socket 1> {}"],
    sockeye: [],
    reason: "A middleware ends with its connection: nobody waits for its verdict any more. Node's goes on.",
  },
  {
    story: "an event that is refused",
    section: "anna saw",
    node: ["no answer to echo: operation has timed out"],
    sockeye: [`answer to echo: ${REFUSED}`],
    reason: "Who waits for an acknowledgement is told that the event was refused. Node never answers.",
  },
  {
    story: "an event that is refused",
    section: "anna, down",
    node: [],
    sockeye: [`433${REFUSED}`],
    reason: "The same, on the wire.",
  },
];
