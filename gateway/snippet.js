// Page views and the like, from a shop's page to POST /v1/events; docs/gateway.md tells how to use it. Browsers get snippet.min.js, which is
// made of this file by the command that stands there.
(() => {
  const { dataset, src } = document.currentScript, browser = navigator, queue = [];
  const address = new URL("events?key=" + dataset.key, src);
  const silent = !dataset.ignore && (browser.globalPrivacyControl || browser.doNotTrack == 1);
  let storage = {}, keepalive = true, here, timer;
  // A page that may not store anything has a new visitor with every load.
  try { storage = localStorage; } catch {}

  const random = () => "" + Date.now() + Math.random();
  const later = (ms) => { timer ||= setTimeout(send, ms); };

  // By a timer, or, with the event, when the page goes away: a beacon outlives it. What could not be kept is sent again, under
  // the same ids, and no more as a request that outlives the page: browsers refuse those over 64 kB.
  const send = (leaving) => {
    timer = 0;
    const events = queue.splice(0, 100), body = JSON.stringify({ sent_at: new Date, events });
    const again = () => { queue.unshift(...events); keepalive = false; later(5e3); };
    events[0] && (leaving ? browser.sendBeacon(address, body)
      : fetch(address, { method: "POST", body, keepalive }).then((answer) => answer.status > 428 && again(), again));
  };

  const track = (name, data) => {
    // As long as nothing can be sent, the latest are the ones to miss.
    if (silent || queue[99]) return;
    const time = new Date;
    let [visitor_id = random(), session_id, seen] = storage._ts?.split(" ") || [];
    // Half an hour of silence ends a visit.
    if (!(time - seen < 18e5)) session_id = random();
    storage._ts = [visitor_id, session_id, +time].join(" ");
    queue.push({ id: random(), name, time, params: { visitor_id, session_id, page_location: location.href, member: ts.member, ...data } });
    later(200);
  };

  const view = () => {
    if (here != location.href) {
      track("page_view", { page_title: document.title, page_referrer: here || document.referrer });
      here = location.href;
    }
  };

  window.ts = { track };
  // Pages that change without a load. The page's own functions stay as they are; older browsers have no Navigation API.
  window.navigation ? navigation.addEventListener("currententrychange", view) : setInterval(view, 500);
  addEventListener("pagehide", send);
  view();
})();
