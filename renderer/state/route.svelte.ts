// Which page is shown: read from the address behind `#`, so that Back and bookmarks work.

export type Route =
  | { readonly page: 'library'; readonly datastore: string | null; readonly tag: string | null }
  | {
      readonly page: 'image';
      readonly id: string;
      readonly tab: string;
      readonly query?: Readonly<Record<string, string>>;
    }
  /** All chains; `image`: the one that is selected there. */
  | { readonly page: 'chains'; readonly image: string | null }
  | { readonly page: 'problems' }
  | { readonly page: 'jobs' }
  /** The image that a job is writing. */
  | { readonly page: 'fill'; readonly job: string }
  | { readonly page: 'settings' };

function parse(hash: string): Route {
  const url = new URL(hash.replace(/^#/, '') || '/', 'http://window');
  const [page, id, tab] = url.pathname.split('/').slice(1).map(decodeURIComponent);
  if (page === 'image' && id !== undefined && id !== '') {
    return { page, id, tab: tab ?? 'overview', query: Object.fromEntries(url.searchParams) };
  }
  if (page === 'jobs' && id !== undefined && tab === 'map') return { page: 'fill', job: id };
  if (page === 'chains') return { page, image: url.searchParams.get('image') };
  if (page === 'problems' || page === 'jobs' || page === 'settings') return { page };
  return { page: 'library', datastore: url.searchParams.get('datastore'), tag: url.searchParams.get('tag') };
}

export const shown = $state<{ route: Route }>({ route: parse(location.hash) });

window.addEventListener('hashchange', () => {
  shown.route = parse(location.hash);
});

/** The address of a page, for links. */
export function addressOf(route: Route): string {
  switch (route.page) {
    case 'image': {
      const query = new URLSearchParams(route.query);
      return `#/image/${encodeURIComponent(route.id)}/${route.tab}${query.size === 0 ? '' : `?${query}`}`;
    }
    case 'library': {
      const query = new URLSearchParams();
      if (route.datastore !== null) query.set('datastore', route.datastore);
      if (route.tag !== null) query.set('tag', route.tag);
      return `#/library${query.size === 0 ? '' : `?${query}`}`;
    }
    case 'chains':
      return `#/chains${route.image === null ? '' : `?${new URLSearchParams({ image: route.image })}`}`;
    case 'fill':
      return `#/jobs/${encodeURIComponent(route.job)}/map`;
    case 'problems':
    case 'jobs':
    case 'settings':
      return `#/${route.page}`;
  }
}

export function goTo(route: Route): void {
  location.hash = addressOf(route);
}
